package dpkg

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/layers"
)

const status = `Package: bash
Essential: yes
Status: install ok installed
Architecture: amd64
Multi-Arch: foreign
Version: 5.2.15-2+b2
Conffiles:
 /etc/bash.bashrc 89269e1298235f1b12b4c16e4065ad0d
 /etc/skel/.old 22bfb8c1dd94b5f3813a2b25da67463f obsolete
Description: GNU Bourne Again SHell
 Bash is an sh-compatible command language interpreter.
 .
 More.

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: exim4-daemon-light
Status: install ok installed
Architecture: amd64
Source: exim4 (4.96)
Version: 4:4.96-15
Provides: default-mta (= 1), mail-transport-agent

Package: adduser
Status: install ok installed
Architecture: all
Version: 3.134
`

func newTree(t *testing.T, files map[string]string) *layers.Tree {
	t.Helper()
	edit := layers.NewTree().Edit(layers.Timespec{})
	for name, text := range files {
		if err := edit.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return edit.Tree()
}

func TestInstalled(t *testing.T) {
	tree := newTree(t, map[string]string{
		statusFile:            status,
		statusDir + "/tzdata": "Package: tzdata\nVersion: 2024a\nArchitecture: all\n", statusDir + "/tzdata.md5sums": "x  y\n",
	})
	got, err := Installed(tree)
	if err != nil {
		t.Fatal(err)
	}
	want := []Package{
		{Name: "adduser", Version: "3.134", Architecture: "all", Source: "adduser"},
		{
			Name: "bash", Version: "5.2.15-2+b2", Architecture: "amd64", Source: "bash", Essential: true, MultiArch: "foreign",
			Conffiles: []Conffile{{"etc/bash.bashrc", "89269e1298235f1b12b4c16e4065ad0d", false}, {"etc/skel/.old", "22bfb8c1dd94b5f3813a2b25da67463f", true}},
		},
		{Name: "exim4-daemon-light", Version: "4:4.96-15", Architecture: "amd64", Source: "exim4", Provides: []string{"default-mta", "mail-transport-agent"}},
		{Name: "tzdata", Version: "2024a", Architecture: "all", Source: "tzdata"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var out bytes.Buffer
	if err := WritePackages(&out, got); err != nil {
		t.Fatal(err)
	}
	const lines = "adduser|None|3.134|None|all|None|None\nbash|None|5.2.15-2+b2|None|amd64|None|None\n" +
		"exim4-daemon-light|None|4:4.96-15|None|amd64|None|None\ntzdata|None|2024a|None|all|None|None\n"
	if diff := cmp.Diff(lines, out.String()); diff != "" {
		t.Error(diff)
	}
	missing := Missing(got, []string{"bash", "zsh", "bash:amd64", "bash:i386", "mail-transport-agent", "zsh", "bash:any"})
	if diff := cmp.Diff([]string{"zsh", "bash:i386"}, missing); diff != "" {
		t.Error(diff)
	}
	if there, writable := HasDatabase(tree); !there || !writable {
		t.Errorf("%v %v", there, writable)
	}
	if there, writable := HasDatabase(layers.NewTree()); there || writable {
		t.Errorf("%v %v", there, writable)
	}
}

func TestVerified(t *testing.T) {
	tree := newTree(t, map[string]string{
		statusFile: strings.ReplaceAll(status, "89269e1298235f1b12b4c16e4065ad0d", "d41d8cd98f00b204e9800998ecf8427e"),
		infoDir + "/bash.md5sums": "b1946ac92492d2347c6235b4d2611184  usr/bin/bash\nb1946ac92492d2347c6235b4d2611184  usr/share/doc/bash/README\n" +
			"d41d8cd98f00b204e9800998ecf8427e  usr/share/empty\n591785b794601e212b260e25925636fd  usr/bin/other\n",
		infoDir + "/adduser.md5sums": "b1946ac92492d2347c6235b4d2611184  sbin/adduser\n",
		"usr/bin/bash":               "hello\n",
		"usr/bin/other":              "hello\n",
		"usr/share/empty":            "",
		"usr/sbin/adduser":           "hello\n",
		"etc/bash.bashrc":            "changed\n",
	})
	edit := tree.Edit(layers.Timespec{})
	if err := edit.Symlink("usr/sbin", "sbin"); err != nil {
		t.Fatal(err)
	}
	tree = edit.Tree()
	packages, err := Installed(tree)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := surveyed(t, tree, packages).WriteVerified(&out); err != nil {
		t.Fatal(err)
	}
	const want = "??5?????? c /etc/bash.bashrc\n??5??????   /usr/bin/other\nmissing     /usr/share/doc/bash/README\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestChanges(t *testing.T) {
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	if _, err := zip.Write([]byte("bash (5.2) unstable\n\n  * News")); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	tree := newTree(t, map[string]string{statusFile: status, "usr/share/doc/bash/changelog.Debian.gz": packed.String()})
	packages, err := Installed(tree)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := surveyed(t, tree, packages).WriteChanges(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("adduser|\nbash|\nbash (5.2) unstable\n\n  * News\nexim4-daemon-light|\n", out.String()); diff != "" {
		t.Error(diff)
	}
}

func FuzzStanzas(f *testing.F) {
	f.Add([]byte(status))
	f.Add([]byte(" x\n:\n#\n\t\nA:\n b"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, stanza := range Stanzas(text) {
			if len(stanza) == 0 {
				t.Error("an empty stanza")
			}
			fromStanza(stanza)
		}
	})
}

// surveyed returns the finished survey of a tree of which somebody else has read every second file.
func surveyed(t *testing.T, tree *layers.Tree, packages []Package) *Survey {
	t.Helper()
	survey, err := NewSurvey(tree, packages)
	if err != nil {
		t.Fatal(err)
	}
	odd := false
	err = tree.Walk(func(_ string, n *layers.Node) error {
		if odd = !odd; !odd || !n.IsRegular() || n.Size == 0 {
			return nil
		}
		data, err := n.Open()
		if err != nil {
			return err
		}
		defer data.Close()
		_, err = io.Copy(survey.Observe(n), data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := survey.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	return survey
}
