package settings

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/layers"
)

// newTree makes a tree of files; a text that begins with "-> " is a link.
func newTree(t *testing.T, files map[string]string) *layers.Tree {
	t.Helper()
	edit := layers.NewTree().Edit(layers.Timespec{})
	for name, text := range files {
		var err error
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			err = edit.Symlink(target, name)
		} else {
			err = edit.WriteFile(name, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return edit.Tree()
}

// read returns a file's content, a link's target after "-> ", or "" if there is nothing.
func read(t *testing.T, tree *layers.Tree, name string) string {
	t.Helper()
	if n, err := tree.Lookup(name); err == nil && n.IsSymlink() {
		return "-> " + n.Target
	}
	data, err := tree.ReadFile(name, 1<<20)
	if err != nil {
		return ""
	}
	return string(data)
}

func TestApply(t *testing.T) {
	debian := map[string]string{"etc/debian_version": "12\n", "usr/share/zoneinfo/Etc/UTC": "x", "usr/share/zoneinfo/Europe/Berlin": "x", "etc/hostname": "kept\n"}
	with := func(base map[string]string, more ...string) map[string]string {
		all := map[string]string{}
		for name, text := range base {
			all[name] = text
		}
		for i := 0; i < len(more); i += 2 {
			all[more[i]] = more[i+1]
		}
		return all
	}
	for _, test := range []struct {
		name     string
		files    map[string]string
		image    description.Image
		want     map[string]string
		notes    []string // the beginning of each
		generate []string
	}{
		{
			name: "everything on Debian", files: with(debian, "usr/lib/locale/de_DE.utf8/LC_CTYPE", "x", "etc/default/locale", "LANG=C\nLC_TIME=C\n"),
			image: description.Image{Name: "x", ID: "4711", Locales: []string{"de_DE"}, Keytable: "de-latin1-nodeadkeys", Timezone: "Europe/Berlin"},
			want: map[string]string{
				"etc/locale.conf": "LANG=de_DE.UTF-8\n", "etc/default/locale": "LANG=de_DE.UTF-8\nLC_TIME=C\n", "etc/vconsole.conf": "KEYMAP=de-latin1-nodeadkeys\n",
				"etc/default/keyboard": "XKBMODEL=pc105\nXKBLAYOUT=de\nXKBVARIANT=nodeadkeys\nXKBOPTIONS=\"\"\nBACKSPACE=guess\n",
				"etc/localtime":        "-> ../usr/share/zoneinfo/Europe/Berlin", "etc/timezone": "Europe/Berlin\n", "etc/hostname": "kept\n", "etc/ImageID": "4711\n",
			},
		},
		{
			name: "nothing asked for", files: debian, image: description.Image{Name: "x"},
			want: map[string]string{"etc/locale.conf": "", "etc/vconsole.conf": "", "etc/localtime": "", "etc/hostname": "kept\n", "etc/ImageID": ""},
		},
		{
			name: "not Debian, no host name", files: map[string]string{"etc/os-release": "ID=fedora\n"}, image: description.Image{Name: "My_Image.1", Keytable: "us", Locales: []string{"POSIX"}},
			want: map[string]string{"etc/locale.conf": "LANG=POSIX\n", "etc/default/locale": "", "etc/vconsole.conf": "KEYMAP=us\n", "etc/default/keyboard": "", "etc/hostname": "my-image-1\n"},
		},
		{
			name: "container", files: map[string]string{"etc/os-release": "ID=fedora\n"}, image: description.Image{Name: "x", Type: description.Type{Image: "docker"}},
			want: map[string]string{"etc/hostname": ""},
		},
		{
			name: "locales to be made", files: with(debian, "usr/sbin/locale-gen", "x", "usr/share/i18n/locales/en_US", "x", "etc/locale.gen", "# about\n# de_DE.UTF-8 UTF-8\n# en_US ISO-8859-1\n#  en_US.UTF-8 UTF-8\n"),
			image: description.Image{Locales: []string{"en_US", "fr_FR"}},
			want:  map[string]string{"etc/locale.gen": "# about\n# de_DE.UTF-8 UTF-8\n# en_US ISO-8859-1\nen_US.UTF-8 UTF-8\n", "etc/locale.conf": "LANG=en_US.UTF-8\n"},
			notes: []string{"locale fr_FR.UTF-8 is not installed"}, generate: []string{"en_US.UTF-8"},
		},
		{
			name: "locale in the archive", files: with(debian, "usr/lib/locale/locale-archive", "xx\x00en_US.utf8\x00xx"), image: description.Image{Locales: []string{"en_US"}},
			want: map[string]string{"etc/locale.gen": ""},
		},
		{
			name: "settings behind links", files: with(debian, "etc/locale.conf", "LANG=\"C\"\n", "etc/default/locale", "-> ../locale.conf", "etc/hostname", "buildkitsandbox"),
			image: description.Image{Name: "-", Locales: []string{"POSIX"}}, want: map[string]string{"etc/default/locale": "-> ../locale.conf", "etc/locale.conf": "LANG=POSIX\n", "etc/hostname": "localhost\n"},
		},
		{
			name: "no time zones", files: map[string]string{"etc/debian_version": "12"}, image: description.Image{Name: "x", Timezone: "Asia/Tokyo"},
			want:  map[string]string{"etc/localtime": "-> ../usr/share/zoneinfo/Asia/Tokyo", "etc/timezone": "Asia/Tokyo\n"},
			notes: []string{"time zone Asia/Tokyo is set, but"},
		},
		{
			name: "unknown key map", files: map[string]string{"usr/share/kbd/keymaps/i386/qwerty/us.map.gz": "x", "etc/x": ""}, image: description.Image{Name: "x", Keytable: "uss"},
			want: map[string]string{"etc/vconsole.conf": "KEYMAP=uss\n"}, notes: []string{"the root tree has no key map uss"},
		},
		{
			name: "SUSE with files of old", files: map[string]string{
				"etc/products.d/x": "", "etc/sysconfig/language": "RC_LANG=\"\"\nRC_LC_ALL=\"\"\n", "etc/sysconfig/keyboard": "KEYTABLE=\"\"\n", "etc/sysconfig/clock": "TIMEZONE=\"\"\n",
			},
			image: description.Image{Name: "x", Locales: []string{"de_DE"}, Keytable: "us", Timezone: "Europe/Berlin"},
			want: map[string]string{
				"etc/sysconfig/language": "RC_LANG=de_DE.UTF-8\nRC_LC_ALL=\"\"\n", "etc/sysconfig/keyboard": "KEYTABLE=us.map.gz\n", "etc/sysconfig/clock": "TIMEZONE=\"Europe/Berlin\"\n",
				"etc/locale.conf": "LANG=de_DE.UTF-8\n", "etc/vconsole.conf": "KEYMAP=us\n", "etc/timezone": "",
			},
			notes: []string{"locale de_DE.UTF-8 is not installed and programs will fall back to C; add the package glibc-locale", "time zone Europe/Berlin is set, but the root tree has no time zones and will use UTC; add the package timezone"},
		},
		{
			name: "Fedora", files: map[string]string{"etc/redhat-release": "", "usr/lib/locale/en_US.utf8/LC_CTYPE": "x", "usr/share/zoneinfo/Etc/UTC": "x", "usr/share/zoneinfo/UTC": "x"},
			image: description.Image{Name: "x", Locales: []string{"en_US", "fr_FR"}, Timezone: "UTC"},
			want:  map[string]string{"etc/locale.conf": "LANG=en_US.UTF-8\n", "etc/default/locale": "", "etc/localtime": "-> ../usr/share/zoneinfo/UTC", "etc/timezone": ""},
			notes: []string{"locale fr_FR.UTF-8 is not installed and programs will fall back to C; add the package glibc-langpack-fr"},
		},
		{
			name: "Arch", files: map[string]string{
				"etc/arch-release": "", "usr/bin/locale-gen": "x", "usr/sbin": "-> bin", "usr/share/i18n/locales/en_US": "x", "etc/locale.gen": "#en_US.UTF-8 UTF-8  \n",
			},
			image: description.Image{Name: "x", Locales: []string{"en_US"}}, want: map[string]string{"etc/locale.gen": "en_US.UTF-8 UTF-8\n"}, generate: []string{"en_US.UTF-8"},
		},
		{
			name: "Alpine", files: map[string]string{"etc/alpine-release": "3.20.0\n", "usr/share/bkeymaps/de/de-nodeadkeys.bmap.gz": "x", "etc/hostname": "localhost\n"},
			image: description.Image{Name: "x", Locales: []string{"de_DE"}, Keytable: "de-nodeadkeys"},
			want: map[string]string{
				"etc/profile.d/30-locale.sh": "# The description's locale.\nexport LANG=de_DE.UTF-8\n", "etc/conf.d/loadkmap": "KEYMAP=\"/usr/share/bkeymaps/de/de-nodeadkeys.bmap.gz\"\n", "etc/hostname": "x\n",
			},
		},
		{
			name: "Alpine without the key map", files: map[string]string{"etc/alpine-release": "3.20.0\n", "usr/share/bkeymaps/us/us.bmap.gz": "x"},
			image: description.Image{Name: "x", Keytable: "xx"}, want: map[string]string{"etc/conf.d/loadkmap": ""}, notes: []string{"the root tree has no key map xx"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			edit := newTree(t, test.files).Edit(layers.Timespec{})
			result, err := Apply(edit, &test.image)
			if err == nil {
				err = ApplyHostname(edit, &test.image)
			}
			if err != nil {
				t.Fatal(err)
			}
			tree := edit.Tree()
			for name, want := range test.want {
				if diff := cmp.Diff(want, read(t, tree, name)); diff != "" {
					t.Errorf("%s: %s", name, diff)
				}
			}
			if diff := cmp.Diff(test.generate, result.Generate); diff != "" {
				t.Error(diff)
			}
			if len(result.Notes) != len(test.notes) {
				t.Fatalf("notes %q", result.Notes)
			}
			for i, note := range test.notes {
				if !strings.HasPrefix(result.Notes[i], note) {
					t.Errorf("note %q, want %q", result.Notes[i], note)
				}
			}
		})
	}
}

func TestBadTimezone(t *testing.T) {
	tree := newTree(t, map[string]string{"usr/share/zoneinfo/Etc/UTC": "x"})
	for _, zone := range []string{"Europe/Nowhere", "../../../etc/passwd", "Etc"} {
		image := description.Image{Timezone: zone, Origin: description.Origin{Pos: description.Position{File: "config.xml", Line: 3, Column: 9}}}
		_, err := Apply(tree.Edit(layers.Timespec{}), &image)
		var at *description.Error
		if !errors.As(err, &at) || !strings.HasPrefix(err.Error(), "config.xml:3:9: ") {
			t.Errorf("%s: error %v", zone, err)
		}
	}
}

func TestXKBLayout(t *testing.T) {
	for keymap, want := range map[string]string{
		"us": "us ", "uk": "gb ", "de-latin1": "de ", "de-latin1-nodeadkeys": "de nodeadkeys", "sv-latin1": "se ", "fr_CH-latin1": "ch fr", "jp106": "jp ", "br-abnt2": "br ", "us-acentos": "us intl",
	} {
		layout, variant := xkbLayout(keymap)
		if diff := cmp.Diff(want, layout+" "+variant); diff != "" {
			t.Errorf("%s: %s", keymap, diff)
		}
	}
}

func TestQuoteShell(t *testing.T) {
	for value, want := range map[string]string{"": `""`, "de_DE.UTF-8": "de_DE.UTF-8", "a b": `"a b"`, "$(x)`\"\\": "\"\\$(x)\\`\\\"\\\\\""} {
		if diff := cmp.Diff(want, quoteShell(value)); diff != "" {
			t.Error(diff)
		}
	}
}
