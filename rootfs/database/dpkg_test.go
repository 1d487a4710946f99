package database

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/layerstest"
)

const dpkgStatusText = `Package: bash
Essential: yes
Status: install ok installed
Architecture: amd64
Version: 5.2.15-2+b2
Conffiles:
 /etc/bash.bashrc 89269e1298235f1b12b4c16e4065ad0d
 /etc/skel/.old 22bfb8c1dd94b5f3813a2b25da67463f obsolete

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

const dpkgStatusFile = "var/lib/dpkg/status"

// reports opens the tree's database and returns its three reports. Somebody else reads every second file for them.
func reports(t *testing.T, tree *layers.Tree) (packages, changes, verified string) {
	t.Helper()
	db, err := Open(tree)
	if err != nil {
		t.Fatal(err)
	}
	survey, err := db.NewSurvey(nil)
	if err != nil {
		t.Fatal(err)
	}
	odd := false
	err = tree.Walk(func(_ string, n *layers.Node) error {
		if odd = !odd; !odd || !n.IsRegular() || n.Size == 0 {
			return nil
		}
		observer := survey.Observe(n)
		if observer == nil {
			return nil
		}
		data, err := n.Open()
		if err != nil {
			return err
		}
		defer data.Close()
		_, err = io.Copy(observer, data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := survey.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	var out [3]strings.Builder
	for i, write := range []func(io.Writer) error{db.WritePackages, func(w io.Writer) error { return survey.WriteChanges(t.Context(), w) }, survey.WriteVerified} {
		if err := write(&out[i]); err != nil {
			t.Fatal(err)
		}
	}
	return out[0].String(), out[1].String(), out[2].String()
}

func TestNoDatabase(t *testing.T) {
	if db, err := Open(layers.NewTree()); db != nil || err != nil {
		t.Errorf("%v, %v", db, err)
	}
}

func TestDPKG(t *testing.T) {
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	if _, err := zip.Write([]byte("bash (5.2) unstable\n\n  * News")); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	tree := layerstest.Files(t, map[string]string{
		dpkgStatusFile: strings.ReplaceAll(dpkgStatusText, "89269e1298235f1b12b4c16e4065ad0d", "d41d8cd98f00b204e9800998ecf8427e"),
		dpkgInfo + "/bash.md5sums": "b1946ac92492d2347c6235b4d2611184  usr/bin/bash\nb1946ac92492d2347c6235b4d2611184  usr/share/doc/bash/README\n" +
			"d41d8cd98f00b204e9800998ecf8427e  usr/share/empty\n591785b794601e212b260e25925636fd  usr/bin/other\n",
		dpkgInfo + "/adduser.md5sums":              "b1946ac92492d2347c6235b4d2611184  sbin/adduser\n",
		"usr/bin/bash":                             "hello\n",
		"usr/bin/other":                            "hello\n",
		"usr/share/empty":                          "",
		"usr/sbin/adduser":                         "hello\n",
		"etc/bash.bashrc":                          "changed\n",
		"usr/share/doc/bash/changelog.Debian.gz":   packed.String(),
		"usr/share/doc/adduser/changelog.gz.other": "no",
	})
	edit := tree.Edit(layers.Timespec{})
	if err := edit.Symlink("usr/sbin", "sbin"); err != nil {
		t.Fatal(err)
	}
	packages, changes, verified := reports(t, edit.Tree())
	const lines = "adduser|None|3.134|None|all|None|None\nbash|None|5.2.15-2+b2|None|amd64|None|None\nexim4-daemon-light|None|4:4.96-15|None|amd64|None|None\n"
	if diff := cmp.Diff(lines, packages); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff("adduser|\nbash|\nbash (5.2) unstable\n\n  * News\nexim4-daemon-light|\n", changes); diff != "" {
		t.Error(diff)
	}
	const differs = "??5?????? c /etc/bash.bashrc\n??5??????   /usr/bin/other\nmissing     /usr/share/doc/bash/README\n"
	if diff := cmp.Diff(differs, verified); diff != "" {
		t.Error(diff)
	}
	db, err := Open(edit.Tree())
	if err != nil {
		t.Fatal(err)
	}
	if db.Kind() != DPKG {
		t.Error(db.Kind())
	}
	want := []Package{{Name: "adduser", Version: "3.134", Arch: "all", Source: "adduser"}, {Name: "bash", Version: "5.2.15-2+b2", Arch: "amd64", Source: "bash"},
		{Name: "exim4-daemon-light", Version: "4:4.96-15", Arch: "amd64", Source: "exim4"}}
	if diff := cmp.Diff(want, db.Installed()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"zsh"}, db.Missing([]string{"bash", "zsh", "default-mta", "zsh"})); diff != "" {
		t.Error(diff)
	}
}

func TestPackagesAreSortedByLines(t *testing.T) {
	const status = "Package: util-linux\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2\n\n" +
		"Package: util-linux-extra\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2\n"
	packages, _, _ := reports(t, layerstest.Files(t, map[string]string{dpkgStatusFile: status}))
	if diff := cmp.Diff("util-linux-extra|None|2|None|amd64|None|None\nutil-linux|None|2|None|amd64|None|None\n", packages); diff != "" {
		t.Error(diff)
	}
}
