package settings

import (
	"path"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/layers"
)

// applyKeytable sets the console's key map and, on Debian, the keyboard of console and X11.
func applyKeytable(edit *layers.Editor, image *description.Image, debian bool, r *Result) error {
	keymap := strings.TrimSuffix(strings.TrimSuffix(image.Keytable, ".gz"), ".map")
	if keymap == "" {
		return nil
	}
	if err := setVariables(edit, "etc/vconsole.conf", [][2]string{{"KEYMAP", keymap}}); err != nil { // vconsole.conf(5)
		return err
	}
	if err := setWhereSet(edit, "etc/sysconfig/keyboard", "KEYTABLE", keymap+".map.gz"); err != nil {
		return err
	}
	if exists(edit, "usr/share/bkeymaps") {
		return alpineKeymap(edit, keymap, r)
	}
	if there, known := hasKeymap(edit, keymap); known && !there {
		r.note("the root tree has no key map %s; see /usr/share/kbd/keymaps for what there is", keymap)
	}
	if !debian {
		return nil
	}
	layout, variant := xkbLayout(keymap)
	if exists(edit, "usr/share/X11/xkb/symbols") && !exists(edit, "usr/share/X11/xkb/symbols/"+layout) {
		r.note("the root tree has no keyboard layout %s for key map %s; set XKBLAYOUT in /etc/default/keyboard with config.sh", layout, keymap)
	}
	variables := [][2]string{{"XKBLAYOUT", layout}, {"XKBVARIANT", variant}}
	if !exists(edit, "etc/default/keyboard") { // keyboard(5)
		variables = append([][2]string{{"XKBMODEL", "pc105"}}, append(variables, [2]string{"XKBOPTIONS", ""}, [2]string{"BACKSPACE", "guess"})...)
	}
	return setVariables(edit, "etc/default/keyboard", variables)
}

// alpineKeymap lets busybox load a key map, which lies in a folder named after its layout.
func alpineKeymap(edit *layers.Editor, keymap string, r *Result) error {
	layout, _, _ := strings.Cut(keymap, "-")
	file := "usr/share/bkeymaps/" + layout + "/" + keymap + ".bmap.gz"
	if !exists(edit, file) {
		r.note("the root tree has no key map %s; see /usr/share/bkeymaps for what there is", keymap)
		return nil
	}
	return setVariables(edit, "etc/conf.d/loadkmap", [][2]string{{"KEYMAP", "/" + file}})
}

// hasKeymap looks for a console key map. known is false if the tree has none at all, as Debian without console-data.
func hasKeymap(edit *layers.Editor, keymap string) (there, known bool) {
	for _, dir := range []string{"usr/share/kbd/keymaps", "usr/lib/kbd/keymaps", "usr/share/keymaps"} {
		_, node, err := edit.Resolve(dir)
		if err != nil || !node.IsDir() {
			continue
		}
		known = known || node.Len() > 0
		if findKeymap(node, keymap) {
			return true, true
		}
	}
	return false, known
}

func findKeymap(dir *layers.Node, keymap string) bool {
	for _, name := range dir.Names() {
		child := dir.Child(name)
		if child.IsDir() && findKeymap(child, keymap) {
			return true
		}
		base, rest, ok := strings.Cut(path.Base(name), ".map")
		if ok && base == keymap && (rest == "" || strings.HasPrefix(rest, ".")) && !child.IsDir() {
			return true
		}
	}
	return false
}

// xkbLayout returns the layout and variant of X11's keyboard extension for a console key map. Most key maps are named after the country, as layouts
// are; the table has the others.
func xkbLayout(keymap string) (layout, variant string) {
	switch keymap {
	case "uk":
		return "gb", ""
	case "us-acentos":
		return "us", "intl"
	case "dvorak":
		return "us", "dvorak"
	case "colemak":
		return "us", "colemak"
	case "sg", "de_CH-latin1", "sg-latin1":
		return "ch", ""
	case "fr_CH", "fr_CH-latin1":
		return "ch", "fr"
	case "fr-bepo":
		return "fr", "bepo"
	case "cf":
		return "ca", ""
	case "jp106":
		return "jp", ""
	case "la-latin1":
		return "latam", ""
	case "be-latin1":
		return "be", ""
	case "slovene":
		return "si", ""
	case "croat":
		return "hr", ""
	case "trq":
		return "tr", ""
	case "trf":
		return "tr", "f"
	case "pl1", "pl2":
		return "pl", ""
	case "ro_std":
		return "ro", ""
	case "gr":
		return "gr", ""
	case "lat", "lv":
		return "lv", ""
	case "ruwin_alt-UTF-8", "ruwin_ctrl-UTF-8", "ru4":
		return "ru", ""
	}
	country, rest, _ := strings.Cut(keymap, "-")
	if country == "sv" {
		country = "se"
	}
	if strings.HasSuffix(rest, "nodeadkeys") {
		variant = "nodeadkeys"
	}
	return country, variant
}
