package rootfs

import (
	"errors"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/description/legacy2006"
	"github.com/imgbuild/imgbuild/rootfs/scripts"
)

// blind reports whether a script of a description surely does the same for all of the image types. A script that may be able to tell them apart is not blind: one that
// names a variable whose value differs, that looks at variables without naming them, that reads or runs other files than those every script sources, or that
// starts a program which the variables may reach as a script. In doubt it is not.
func blind(script string, types []*description.Image) bool {
	files := types[0].FS
	if files == nil {
		return true
	}
	text, err := fs.ReadFile(files, script)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if _, legacy := fs.Stat(files, legacy2006.Folder); err != nil || legacy == nil { // its script runs others
		return false
	}
	code, ok := plainCode(string(text))
	if !ok || tellsTypesApart().MatchString(code) {
		return false
	}
	for _, name := range differing(types) {
		word := regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b`)
		if word.MatchString(code) || word.Match(scripts.Library()) {
			return false
		}
	}
	return true
}

// plainCode returns a shell script without comments and without the lines that source the files which every script may source. It reports false for a script in
// another language.
func plainCode(text string) (string, bool) {
	if first, _, _ := strings.Cut(text, "\n"); strings.HasPrefix(first, "#!") && !regexp.MustCompile(`^#!\s*(/usr)?/bin/(env )?(ba)?sh(\s|$)`).MatchString(first) {
		return "", false
	}
	usual := regexp.MustCompile(`(\btest -[efr] |\[ -[efr] |\. |\bsource )"?/?\.(kconfig|profile)"?(\s|;|$)`)
	var code strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		code.WriteString(usual.ReplaceAllString(line, " "))
		code.WriteString("\n")
	}
	return code.String(), true
}

// tellsTypesApart matches whatever may see the values of variables, or what a type adds to the tree before the script runs: its host name and the
// description's files.
func tellsTypesApart() *regexp.Regexp {
	return regexp.MustCompile(`(?im)` + strings.Join([]string{
		`\$\{!`, `\b(eval|export|declare|typeset|local -p|compgen|printenv|env|environ|exec|allexport|xargs|chroot|nsenter|unshare|sudo|su|runuser|setsid|parallel|make|cmake)\b`,
		`\bset\s+-[a-z]*a`, `\bset\s*($|[|>;&)])`,
		`\b(ba|da|k|z|c|tc|fi)?sh\b`, `\b(python|perl|ruby|lua|node|php|tcl|gawk|mawk|awk|guile|ocaml|java|go|deno|bun)[0-9.]*\b`,
		`(^|[\s;&|({"'=/])(\.|source)\s+\S`, `\S+\.(sh|bash|py|pl|rb|lua|js|awk)\b`, `(^|[\s;&|(])\.{0,2}/\S*/(libexec|local|opt)/`, `(^|[\s;&|(])\./`, `(^|[;&|({!]|\b(then|do|else|if|while)\b)\s*"?/(image|opt|srv|root|home|tmp|var|run|mnt)/`,
		`\.profile`, `kiwi_\W`, `/image\b`, `config\.xml`, `hostname`, `/proc/`,
		`\b(dracut|mkinitrd|mkinitcpio|update-initramfs|kernel-install|update-grub|grub2?-mkconfig)\b`, // they take in what the tree has of its type
	}, "|"))
}

// differing returns the names of the variables for scripts that have not the same value for all of the types.
func differing(types []*description.Image) []string {
	names := map[string]bool{}
	first := types[0].ProfileVariables()
	for _, t := range types[1:] {
		other := t.ProfileVariables()
		for _, name := range slices.Concat(slices.Collect(maps.Keys(first)), slices.Collect(maps.Keys(other))) {
			one, has := first[name]
			if two, too := other[name]; one != two || has != too {
				names[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}
