package rpm

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// The two places of the database. SUSE and Fedora have moved it from /var to /usr.
const (
	SystemPath = "/usr/lib/sysimage/rpm"
	VarPath    = "/var/lib/rpm"
)

// HomeDir is the home directory in a sandbox whose .rpmmacros rpm and all that use its library obey.
const HomeDir = "/run/imgbuild/home"

// DatabasePath is where the tree's database is or belongs: the directory of an existing one, or one that a package of the tree has made for it, or
// else usual, which the distribution's package manager tells.
func DatabasePath(tree *layers.Tree, usual string) string {
	if dir, _ := Find(tree); dir != "" {
		return "/" + dir
	}
	for _, dir := range Dirs() {
		if node, err := tree.Lookup(dir); err == nil && node.IsDir() { // and no link to the other one
			return "/" + dir
		}
	}
	return usual
}

// Macros is a file of rpm's macros: where the database is, which languages' files are installed, and whether documentation is. Of locales, which
// count where the description asks for filtering, each is xx_YY or POSIX.
func Macros(dbpath string, settings description.RPMSettings, locales []string) string {
	var text strings.Builder
	if dbpath != "" {
		fmt.Fprintf(&text, "%%_dbpath %s\n", dbpath)
	}
	if settings.LocaleFiltering {
		// A file marked %lang(de) is installed if a word of the list begins with de.
		langs := []string{"POSIX", "C", "C.UTF-8"}
		for _, locale := range locales {
			if !slices.Contains(langs, locale) {
				langs = append(langs, locale)
			}
		}
		fmt.Fprintf(&text, "%%_install_langs %s\n", strings.Join(langs, ":"))
	}
	if settings.ExcludeDocs {
		text.WriteString("%_excludedocs 1\n")
	}
	// In a sandbox these are mounts, whose owners and modes are not the tree's.
	text.WriteString("%_netsharedpath /dev:/proc:/sys\n")
	// The database of a tree under construction is worth nothing after a power cut.
	text.WriteString("%_flush_io 0\n")
	// The sandbox isolates scripts already, and lets nobody else do it: with this plugin of rpm 4.20 and newer, none of them would start.
	text.WriteString("%__transaction_unshare %{nil}\n")
	return text.String()
}

// Configure makes rpm obey the macros in a sandbox. They count more than those of the system that it runs on.
func Configure(spec *sandbox.Spec, macros string) {
	spec.Env = append(spec.Env, "HOME="+HomeDir)
	spec.Files = append(spec.Files, sandbox.File{Path: HomeDir + "/.rpmmacros", Data: []byte(macros), Perm: 0o644})
}

// Machine is the architecture of this machine, as rpm and uname -m name it.
func Machine() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	case "386":
		return "i686"
	}
	return runtime.GOARCH
}

// Accept lets rpm install packages of another architecture in a sandbox of this machine.
func Accept(spec *sandbox.Spec, arch string) {
	data := fmt.Sprintf("arch_compat: %s: %s\n", Machine(), arch)
	spec.Files = append(spec.Files, sandbox.File{Path: HomeDir + "/.rpmrc", Data: []byte(data), Perm: 0o644})
}
