package apt

import (
	"fmt"
	"strings"

	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// Architecture is Debian's name of an architecture that uname -m names.
func Architecture(machine string) string {
	switch machine {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	case "armv7l", "armv7hl":
		return "armhf"
	case "armv6l", "armv5tel":
		return "armel"
	case "i386", "i486", "i586", "i686", "ix86":
		return "i386"
	case "ppc64le":
		return "ppc64el"
	case "mips64", "mips64el":
		return "mips64el"
	case "loongarch64":
		return "loong64"
	}
	return machine // riscv64, s390x, ppc64
}

// configuration is what apt.conf(5) says for a task; given by -c it counts more than what the tree has in /etc/apt/apt.conf.d.
func (s *session) configuration(t task) string {
	settings := [][2]string{
		{"Dir::State::lists", insideDir + "/lists"},
		{"Dir::Cache", insideDir + "/cache"},
		{"Dir::Cache::archives", "archives"},
		{"Dir::Cache::pkgcache", "pkgcache.bin"},
		{"Dir::Cache::srcpkgcache", ""},
		{"Dir::Log", insideDir + "/log"},
		{"Dir::Etc::netrc", insideConf + "/auth.conf"},
		{"Dir::Etc::netrcparts", insideDir + "/none"},
		{"Acquire::Languages", "none"},
		{"Acquire::Retries", "3"},
		{"Acquire::PDiffs", "false"},
		{"Acquire::ForceHash", "sha256"}, // --print-uris tells that one
		{"Acquire::http::Timeout", "60"},
		{"APT::Update::Error-Mode", "any"},
		{"APT::Keep-Downloaded-Packages", "true"},
		{"APT::Get::Assume-Yes", "true"},
		{"APT::Get::HideAutoRemove", "true"},
		{"APT::Get::AllowUnauthenticated", "false"},
		{"APT::Get::AllowDowngrades", "true"},
		{"APT::Get::AllowRemoveEssential", "true"},
		{"APT::Get::AllowChangeHeldPackages", "true"},
		{"Binary::apt-get::APT::Keep-Downloaded-Packages", "true"},
		{"Dpkg::Use-Pty", "false"},
		{"Dpkg::Path", sandbox.Path}, // with the stand-ins
	}
	if t.unpacker != nil {
		settings = append(settings, [][2]string{{"Dir::Bin::dpkg", dpkgFile}, {"Dpkg::Install::Recursive::Minimum", "1000000"}, {"Dpkg::MaxArgBytes", "1000000"}}...)
	}
	if t.local {
		settings = append(settings, [2]string{"APT::Get::List-Cleanup", "false"}) // the lists of the others stay
	}
	for _, option := range s.dpkgOptions() {
		settings = append(settings, [2]string{"Dpkg::Options::", option})
	}
	settings = append(settings, s.places(t)...)
	if len(s.Repositories.Binds) > 0 {
		// The user that apt's downloads run as can't read what an ordinary user keeps in a home directory.
		settings = append(settings, [2]string{"APT::Sandbox::User", "root"})
	}
	var text strings.Builder
	if t.place != inside {
		text.WriteString("#clear APT::Architectures;\n")
	}
	for _, setting := range settings {
		fmt.Fprintf(&text, "%s %q;\n", setting[0], setting[1])
	}
	return text.String()
}

// copyKeyrings is run by apt before it fetches lists, where it is not the tree's own: repositories without keys of their own are trusted as the
// keyrings of distributions say that this machine or the builder container has.
const copyKeyrings = "for f in /usr/share/keyrings/*-archive-keyring.gpg /usr/share/keyrings/*-archive-keyring.pgp; do [ ! -f $f ] || cp $f " + trustedDir + "/$(basename ${f%.*}).gpg; done"

// places are the settings that depend on where apt works.
func (s *session) places(t task) [][2]string {
	var settings [][2]string
	if !s.sources.own {
		settings = append(settings, [][2]string{
			{"Dir::Etc::sourcelist", "/dev/null"},
			{"Dir::Etc::sourceparts", insideConf + "/sources.list.d"},
			{"Dir::Etc::preferencesparts", insideDir + "/none"},
		}...)
	}
	if !s.sources.own || len(t.ignore) > 0 || s.Locked != nil {
		settings = append(settings, [2]string{"Dir::Etc::preferences", insideConf + "/preferences"})
	}
	if t.place != inside || s.sources.trusted {
		settings = append(settings, [2]string{"Dir::Etc::trustedparts", trustedDir})
	}
	arch := Architecture(s.Arch)
	elsewhere := [][2]string{
		{"Dir::Etc::trusted", "/dev/null"}, {"APT::Architecture", arch}, {"APT::Architectures::", arch}, {"APT::Update::Pre-Invoke::", copyKeyrings},
	}
	switch t.place {
	case inside:
		return settings
	case outside:
		settings = append(settings, elsewhere...)
		return append(settings, [][2]string{
			{"Dir::State::status", packages.TargetDir + statusFile}, {"Dir::State::extended_states", packages.TargetDir + statesFile}, {"Dpkg::Chroot-Directory", packages.TargetDir},
		}...)
	}
	settings = append(settings, elsewhere...)
	return append(settings, [][2]string{{"Dir::State::status", insideDir + "/status"}, {"Dir::State::extended_states", insideDir + "/extended_states"}}...)
}

// dpkgOptions are the options that dpkg is called with, by apt or by this package.
func (s *session) dpkgOptions() []string {
	options := []string{"--force-confdef", "--force-confold", "--force-unsafe-io", "--log=" + insideDir + "/log/dpkg.log"}
	if s.Image.RPM.ExcludeDocs {
		options = append(options, "--path-exclude=/usr/share/man/*", "--path-exclude=/usr/share/doc/*", "--path-include=/usr/share/doc/*/copyright")
	}
	return options
}

// preferences is what apt_preferences(5) says for a task: the repositories' priorities, what must not be installed, and the versions of the lock.
func (s *session) preferences(t task) string {
	var text strings.Builder
	text.WriteString(s.sources.preferences)
	for _, p := range t.ignore {
		fmt.Fprintf(&text, "Package: %s\nPin: release *\nPin-Priority: -1\n\n", p.Name)
	}
	for _, p := range s.Locked {
		fmt.Fprintf(&text, "Package: %s\nPin: version %s\nPin-Priority: 1001\n\n", p.Name, p.Version)
	}
	return text.String()
}
