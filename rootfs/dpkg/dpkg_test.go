package dpkg

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/layers/layerstest"
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

func TestInstalled(t *testing.T) {
	tree := layerstest.Files(t, map[string]string{
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
