package zypper

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/testrepos"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/files"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/packages/managertest"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
)

func TestWriteRepositories(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedPrograms(t, "zypper")
	key := testrepos.NewKey(t, "one")
	image := &description.Image{Name: "test", Arch: "x86_64", Repositories: []description.Repository{
		{Source: "https://example.org/one", Alias: "one", ImageInclude: true, Priority: 7, SigningKeys: []description.SigningKey{{URI: "file://" + key.Public}}},
		{Source: "https://me:secret@example.org/two", Alias: "two", ImageOnly: true, RepoGPGCheck: description.False, PackageGPGCheck: description.False},
		{Source: "https://example.org/list", Alias: "three", ImageOnly: true, SourceType: "mirrorlist", Customize: "edit.sh"},
		{Source: "dir://" + t.TempDir(), Alias: "four", ImageInclude: true},
		{Source: "https://example.org/five", Alias: "five"},
	}}
	repos, err := repositories.Open(t.Context(), repositories.Options{Image: image, Files: files.Source{}, Workdir: t.TempDir()})
	managertest.Must(t, err)
	edit := layers.NewTree().Edit(layers.Timespec{})
	scripts := files.Source{FS: fstest.MapFS{"edit.sh": {Data: []byte("sed -i s/^priority=99/priority=42/ \"$1\"\necho \"# ${1##*/}\" >> \"$1\"\n")}}}
	notes, err := WriteRepositories(edit, repos, managertest.Change(t, scripts))
	managertest.Must(t, err)
	if len(notes) != 2 || !strings.Contains(notes[0], "user name and password") || !strings.Contains(notes[1], "directory of this machine") {
		t.Errorf("%q", notes)
	}
	tree := edit.Tree()
	dir := t.TempDir()
	var all strings.Builder
	for _, name := range []string{"one", "two", "three"} {
		data, err := tree.ReadFile("etc/zypp/repos.d/"+name+".repo", 1<<16)
		managertest.Must(t, err)
		all.Write(data)
	}
	const want = "[one]\nname=one\nenabled=1\nautorefresh=1\nbaseurl=https://example.org/one\ntype=rpm-md\npriority=7\nkeeppackages=0\ngpgcheck=1\nrepo_gpgcheck=1\npkg_gpgcheck=1\ngpgkey=file:///usr/lib/rpm/gnupg/keys/one.asc\n" +
		"[two]\nname=two\nenabled=1\nautorefresh=1\nbaseurl=https://example.org/two\ntype=rpm-md\npriority=99\nkeeppackages=0\ngpgcheck=0\nrepo_gpgcheck=0\npkg_gpgcheck=0\n" +
		"[three]\nname=three\nenabled=1\nautorefresh=1\nmirrorlist=https://example.org/list\ntype=rpm-md\npriority=42\nkeeppackages=0\ngpgcheck=1\nrepo_gpgcheck=1\npkg_gpgcheck=1\n# three.repo\n"
	if diff := cmp.Diff(want, all.String()); diff != "" {
		t.Error(diff)
	}
	if data, err := tree.ReadFile("usr/lib/rpm/gnupg/keys/one.asc", 1<<16); err != nil || !strings.Contains(string(data), "BEGIN PGP PUBLIC KEY") {
		t.Errorf("the key is %q, %v", data, err)
	}
	// The real zypper understands it.
	if _, err := layers.WriteDir(t.Context(), dir, tree, layers.DirOptions{Overwrite: true}); err != nil {
		t.Fatal(err)
	}
	out := testenv.Run(t, "zypper", "--root", dir, "repos", "--details")
	for _, want := range []string{"|   42     |", "| https://example.org/one ", "| https://example.org/two ", "| ( p) Yes", "| (  ) No "} {
		if !strings.Contains(out, want) {
			t.Errorf("zypper shows no %q:\n%s", want, out)
		}
	}
}

func TestParseAnswer(t *testing.T) {
	const answer = `<?xml version='1.0'?>
<stream>
<message type="info">Reading installed packages...</message>
<prompt id="1"><description>Problem: one &gt; two
 Solution 1: do not</description><text>Choose</text></prompt>
<install-summary download-size="1079469" space-usage-diff="-27" packages-to-change="4">
<to-install>
<solvable type="package" name="a" edition="0:1-1" arch="noarch" summary=""/>
<solvable type="pattern" name="p" edition="1-1" arch="noarch" summary=""/>
</to-install>
<to-upgrade><solvable type="package" name="b" edition="2:2-1" edition-old="1-1" arch="x86_64"/></to-upgrade>
<to-remove><solvable type="package" name="c" edition="3-1" arch="x86_64"/></to-remove>
</install-summary>
</stream>`
	var messages []string
	plan, err := parseAnswer(strings.NewReader(answer), func(text string) { messages = append(messages, text) })
	managertest.Must(t, err)
	want := packages.Transaction{Growth: -27, Packages: []packages.Package{
		{Name: "a", Version: "1-1", Arch: "noarch", Download: -1, Installed: -1}, {Name: "b", Version: "2:2-1", Arch: "x86_64", Download: -1, Installed: -1},
	}}
	if diff := cmp.Diff(want, plan); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"Reading installed packages...", "Problem: one > two\n Solution 1: do not"}, messages); diff != "" {
		t.Error(diff)
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add(`<stream><install-summary><to-install><solvable type="package"/></to-install></install-summary></stream>`)
	f.Fuzz(func(t *testing.T, answer string) {
		_, _ = parseAnswer(strings.NewReader(answer), func(string) {})
	})
}

func TestFixTime(t *testing.T) {
	edit := layers.NewTree().Edit(layers.Timespec{})
	managertest.Must(t, FixTime(edit, time.Unix(0, 0)))
	for text, want := range map[string]string{
		"# AutoInstalled generated Fri Nov 20 12:37:22 2026\n#\nbusybox\n": "# AutoInstalled generated Thu Jan  1 00:00:00 1970\n#\nbusybox\n",
		"busybox\n": "busybox\n", "": "",
	} {
		managertest.Must(t, edit.WriteFile(autoInstalled, []byte(text), 0o644))
		managertest.Must(t, FixTime(edit, time.Unix(0, 0)))
		if got, err := edit.ReadFile(autoInstalled, 1<<16); err != nil || string(got) != want {
			t.Errorf("%q became %q, %v", text, got, err)
		}
	}
}
