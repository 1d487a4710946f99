// Package settings writes a root tree's locale, keyboard, time zone, host name and image id into the tree's own files.
package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/layers"
)

// maxFile bounds the settings files that are read, in bytes; maxArchive that of compiled locales.
const (
	maxFile    = 4 << 20
	maxArchive = 512 << 20
)

// Result says what [Apply] could not do by itself.
type Result struct {
	// Notes say what a user may not have meant, and what to do about it.
	Notes []string
	// Generate are the locales, such as de_DE.UTF-8, that the tree's locale-gen has to make; they are in /etc/locale.gen now.
	Generate []string
}

func (r *Result) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// Apply writes the settings of a description into a tree, but for the host name, for which there is [ApplyHostname]. What the description leaves open stays as it is.
func Apply(edit *layers.Editor, image *description.Image) (Result, error) {
	var r Result
	distribution := familyOf(edit)
	debian := distribution == debianFamily
	if err := applyLocale(edit, image, distribution, &r); err != nil {
		return r, fmt.Errorf("setting the locale: %w", err)
	}
	if err := applyKeytable(edit, image, debian, &r); err != nil {
		return r, fmt.Errorf("setting the keyboard: %w", err)
	}
	if err := applyTimezone(edit, image, distribution, &r); err != nil {
		return r, err
	}
	if image.ID != "" {
		if err := edit.WriteFile("etc/ImageID", []byte(image.ID+"\n"), 0o644); err != nil {
			return r, fmt.Errorf("writing /etc/ImageID: %w", err)
		}
	}
	return r, nil
}

// HasHostname reports whether images of the type have a host name: that of a container comes from who runs it.
func HasHostname(t *description.Type) bool { return t.Image != "docker" && t.Image != "oci" }

// ApplyHostname names a machine after its image where the tree has no name, or one that a container's build has left there.
func ApplyHostname(edit *layers.Editor, image *description.Image) error {
	if !HasHostname(&image.Type) {
		return nil
	}
	if err := applyHostname(edit, image.Name); err != nil {
		return fmt.Errorf("setting the host name: %w", err)
	}
	return nil
}

// family is a family of distributions, which keep some settings in files of their own.
type family int

const (
	otherFamily family = iota
	debianFamily
	suseFamily
	fedoraFamily
	alpineFamily
)

func familyOf(edit *layers.Editor) family {
	for _, sign := range []struct {
		name   string
		family family
	}{
		{"etc/debian_version", debianFamily}, {"var/lib/dpkg", debianFamily}, {"etc/SUSE-brand", suseFamily}, {"etc/products.d", suseFamily}, {"usr/lib/rpm/suse", suseFamily},
		{"etc/fedora-release", fedoraFamily}, {"etc/redhat-release", fedoraFamily}, {"etc/alpine-release", alpineFamily},
	} {
		if exists(edit, sign.name) {
			return sign.family
		}
	}
	return otherFamily
}

func exists(edit *layers.Editor, name string) bool {
	_, _, err := edit.Resolve(name)
	return err == nil
}

// applyLocale sets LANG to the first locale of the description.
func applyLocale(edit *layers.Editor, image *description.Image, distribution family, r *Result) error {
	if len(image.Locales) == 0 {
		return nil
	}
	lang := withEncoding(image.Locales[0])
	files := []string{"etc/locale.conf"} // locale.conf(5)
	if distribution == debianFamily {
		files = append(files, "etc/default/locale")
	}
	for _, name := range files {
		if err := setVariables(edit, name, [][2]string{{"LANG", lang}}); err != nil {
			return err
		}
	}
	if err := setWhereSet(edit, "etc/sysconfig/language", "RC_LANG", lang); err != nil {
		return err
	}
	if distribution == alpineFamily {
		// Nothing there reads locale.conf; the C library takes a locale without its package for C.UTF-8.
		text := "# The description's locale.\nexport LANG=" + lang + "\n"
		return edit.WriteFile("etc/profile.d/30-locale.sh", []byte(text), 0o644)
	}
	for _, locale := range image.Locales {
		locale = withEncoding(locale)
		there, err := hasLocale(edit, locale)
		if err != nil {
			return err
		}
		if there {
			continue
		}
		definition, _, _ := strings.Cut(locale, ".")
		if exists(edit, "usr/sbin/locale-gen") && exists(edit, "usr/share/i18n/locales/"+definition) {
			r.Generate = append(r.Generate, locale)
			continue
		}
		r.note("locale %s is not installed and programs will fall back to C; add %s to the description", locale, localePackage(distribution, definition))
	}
	if len(r.Generate) > 0 {
		return wantGenerated(edit, r.Generate)
	}
	return nil
}

// localePackage names the package that brings a locale.
func localePackage(distribution family, definition string) string {
	switch distribution {
	case debianFamily:
		return "the package locales (or locales-all)"
	case suseFamily:
		return "the package glibc-locale"
	case fedoraFamily:
		language, _, _ := strings.Cut(definition, "_")
		return "the package glibc-langpack-" + language
	}
	return "the package that brings it"
}

// setWhereSet sets a variable in a file of old that the tree may still have.
func setWhereSet(edit *layers.Editor, name, variable, value string) error {
	if !exists(edit, name) {
		return nil
	}
	return setVariables(edit, name, [][2]string{{variable, value}})
}

// withEncoding adds the encoding that descriptions leave out.
func withEncoding(locale string) string {
	if locale == "POSIX" || locale == "C" || strings.Contains(locale, ".") {
		return locale
	}
	return locale + ".UTF-8"
}

// hasLocale reports whether the tree has a compiled locale: one of the C library's own, a directory, or an entry of the archive of all.
func hasLocale(edit *layers.Editor, locale string) (bool, error) {
	if locale == "POSIX" || locale == "C" || locale == "C.UTF-8" {
		return true, nil
	}
	compiled := strings.Replace(locale, ".UTF-8", ".utf8", 1) // as glibc normalises encodings
	for _, name := range []string{compiled, locale} {
		if exists(edit, "usr/lib/locale/"+name+"/LC_CTYPE") {
			return true, nil
		}
	}
	// The archive keeps names as strings that a zero byte ends (glibc, locarchive.h).
	data, err := edit.ReadFile("usr/lib/locale/locale-archive", maxArchive)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return bytes.Contains(data, []byte("\x00"+compiled+"\x00")), nil
}

// wantGenerated puts locales into locale.gen(5): it removes the # before a line that is there, or adds one.
func wantGenerated(edit *layers.Editor, locales []string) error {
	const name = "etc/locale.gen"
	data, err := edit.ReadFile(name, maxFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	for _, locale := range locales {
		_, encoding, ok := strings.Cut(locale, ".")
		if !ok {
			encoding = "ISO-8859-1"
		}
		want := locale + " " + encoding
		i := slices.IndexFunc(lines, func(line string) bool { return strings.TrimSpace(strings.TrimLeft(line, "# ")) == want })
		if i < 0 {
			lines = append(lines, want)
			continue
		}
		lines[i] = want
	}
	return replaceFile(edit, name, []byte(strings.TrimPrefix(strings.Join(lines, "\n"), "\n")+"\n"))
}

// applyTimezone makes /etc/localtime the link that localtime(5) describes.
func applyTimezone(edit *layers.Editor, image *description.Image, distribution family, r *Result) error {
	zone := strings.TrimPrefix(image.Timezone, "/usr/share/zoneinfo/")
	if zone == "" {
		return nil
	}
	if path.Clean("/"+zone) != "/"+zone {
		return image.Errorf("timezone", "write it as below /usr/share/zoneinfo, such as Europe/Berlin", "%q is not the name of a time zone", image.Timezone)
	}
	switch _, node, err := edit.Resolve("usr/share/zoneinfo/" + zone); {
	case err == nil && !node.IsRegular() || err != nil && exists(edit, "usr/share/zoneinfo/Etc"):
		return image.Errorf("timezone", "see /usr/share/zoneinfo for what there is", "the root tree has no time zone %q", zone)
	case err != nil:
		name := "tzdata"
		if distribution == suseFamily {
			name = "timezone"
		}
		r.note("time zone %s is set, but the root tree has no time zones and will use UTC; add the package %s to the description", zone, name)
	}
	if err := edit.Symlink("../usr/share/zoneinfo/"+zone, "etc/localtime"); err != nil {
		return fmt.Errorf("setting the time zone: %w", err)
	}
	if err := setWhereSet(edit, "etc/sysconfig/clock", "TIMEZONE", zone); err != nil {
		return fmt.Errorf("setting the time zone: %w", err)
	}
	if distribution != debianFamily && distribution != alpineFamily {
		return nil
	}
	if err := replaceFile(edit, "etc/timezone", []byte(zone+"\n")); err != nil {
		return fmt.Errorf("setting the time zone: %w", err)
	}
	return nil
}

func applyHostname(edit *layers.Editor, image string) error {
	data, err := edit.ReadFile("etc/hostname", maxFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch strings.TrimSpace(string(data)) {
	case "", "localhost", "localhost.localdomain", "buildkitsandbox":
	default:
		return nil
	}
	if !exists(edit, "etc") {
		return nil
	}
	return replaceFile(edit, "etc/hostname", []byte(hostname(image)+"\n"))
}

// hostname makes a label of the domain name system (RFC 1123) from an image's name.
func hostname(image string) string {
	label := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			return c
		case c >= 'A' && c <= 'Z':
			return c + 'a' - 'A'
		}
		return '-'
	}, image)
	label = strings.Trim(label[:min(len(label), 63)], "-")
	if label == "" {
		return "localhost"
	}
	return label
}

// setVariables sets NAME=value lines in a file and keeps its other lines.
func setVariables(edit *layers.Editor, name string, variables [][2]string) error {
	data, err := edit.ReadFile(name, maxFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
	for _, v := range variables {
		want := v[0] + "=" + quoteShell(v[1])
		is := func(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), v[0]+"=") }
		i := slices.IndexFunc(lines, is)
		if i < 0 {
			lines = append(lines, want)
			continue
		}
		lines[i] = want
	}
	return replaceFile(edit, name, []byte(strings.Join(lines, "\n")+"\n"))
}

// quoteShell quotes a value that a shell would not take as one word.
func quoteShell(value string) string {
	if value != "" && !strings.ContainsFunc(value, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._-,:@", c)
	}) {
		return value
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(value) + `"`
}

// replaceFile writes a file, in the place where its name leads to if that is a symbolic link, and keeps its owner and mode.
func replaceFile(edit *layers.Editor, name string, data []byte) error {
	resolved, old, err := edit.Resolve(name)
	if err != nil { // not there, or a link that leads nowhere
		return edit.WriteFile(name, data, 0o644)
	}
	node := layers.NewFile(data, old.Perm(), edit.ModTime)
	node.UID, node.GID, node.Xattrs = old.UID, old.GID, old.Xattrs
	return edit.Put(resolved, node)
}
