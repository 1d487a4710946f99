package grub

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// Theme is how GRUB's menu looks on a graphical terminal. Paths begin in GRUB's directory. The zero value is GRUB's own look.
type Theme struct {
	File       string   // such as themes/starfield/theme.txt
	Fonts      []string // that the theme brings
	Background string   // a picture that the distribution's own tools take; may be empty
}

// ThemeError says that the root tree has no such theme.
type ThemeError struct{ Name string }

// Error implements error.
func (e *ThemeError) Error() string {
	return fmt.Sprintf("the root tree has no theme %s for GRUB: add its package, such as grub2-theme-breeze or grub2-branding-openSUSE, to the description", e.Name)
}

// InstallTheme puts a theme of the tree, from where packages install themes, into GRUB's directory dir. Without it the error is a *[ThemeError].
func InstallTheme(edit *layers.Editor, from Resolver, dir, name string) (Theme, error) {
	at := path.Join("themes", name)
	for _, place := range []string{path.Join(dir, "themes"), "boot/grub/themes", "boot/grub2/themes", "usr/share/grub/themes", "usr/share/grub2/themes"} {
		_, node, err := from.Resolve(path.Join(place, name))
		if errors.Is(err, fs.ErrNotExist) || err == nil && (!node.IsDir() || node.Child("theme.txt") == nil) {
			continue
		}
		if err != nil {
			return Theme{}, fmt.Errorf("installing GRUB's theme %s: %w", name, err)
		}
		if err := edit.MkdirAll(path.Join(dir, "themes"), 0o755); err != nil {
			return Theme{}, fmt.Errorf("installing GRUB's theme %s: %w", name, err)
		}
		copied := *node
		if err := edit.Put(path.Join(dir, at), &copied); err != nil {
			return Theme{}, fmt.Errorf("installing GRUB's theme %s: %w", name, err)
		}
		theme := Theme{File: path.Join(at, "theme.txt")}
		for _, file := range node.Names() {
			switch {
			case path.Ext(file) == ".pf2":
				theme.Fonts = append(theme.Fonts, path.Join(at, file))
			case strings.HasPrefix(file, "background."):
				theme.Background = path.Join(at, file)
			}
		}
		return theme, nil
	}
	return Theme{}, &ThemeError{name}
}

// commands are what grub.cfg needs for the theme, one on each line, indented.
func (t Theme) commands() string {
	if t.File == "" {
		return ""
	}
	var b strings.Builder
	b.WriteString("  insmod gfxmenu\n  insmod png\n  insmod jpeg\n")
	for _, font := range t.Fonts {
		fmt.Fprintf(&b, "  loadfont $prefix/%s\n", quote(font))
	}
	fmt.Fprintf(&b, "  set theme=$prefix/%s\n  export theme\n", quote(t.File))
	return b.String()
}
