package apk

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/files"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/packages/managertest"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	userns.MustEnter()
	os.Exit(m.Run())
}

func write(t testing.TB, name, text string) {
	t.Helper()
	managertest.Must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	managertest.Must(t, os.WriteFile(name, []byte(text), 0o644))
}

// world is a root tree with an apk that answers what its documentation and its source say. No real one runs here: Debian has none.
type world struct {
	*managertest.World
	t      *testing.T
	lists  []string // what apk found in its list of repositories
	answer func(command string) (text string, fails bool)
}

const realKey = "-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf9Cnzj4p4WGeKLs1Pt8QuKUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQ==\n-----END PUBLIC KEY-----\n"

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{World: managertest.New(t, "apk", t.TempDir(), Open), t: t}
	w.Answer = w.run
	w.Image = description.Image{Name: "test", Arch: "i686", PackageManager: "apk"}
	w.answer = func(string) (string, bool) { return "", false }
	write(t, filepath.Join(w.Repo, "x86/APKINDEX.tar.gz"), string(index(t, indexText)))
	for _, name := range []string{"musl-1.2.5-r0", "busybox-1.36.1-r2", "busybox-binsh-1.36.1-r2"} {
		write(t, filepath.Join(w.Repo, "x86", name+".apk"), name)
	}
	write(t, filepath.Join(w.Repo, "test@example.org-1.rsa.pub"), realKey)
	return w
}

const indexText = `C:Q1qKcZ+j23xssAXmgQhkOO8dHnbWw=
P:musl
V:1.2.5-r0
A:x86
S:387712
I:622592
T:the musl c library (libc) implementation
p:so:libc.musl-x86.so.1=1

C:Q1abcdefghijklmnopqrstuvwxyz0=
P:busybox
V:1.36.1-r2
A:x86
S:500000
I:900000
D:so:libc.musl-x86.so.1

P:busybox-binsh
V:1.36.1-r2
A:x86
S:1500
I:8192

`

// index is an index as apk-v2(5) and apk-index(8) describe it: streams of a signature and of the archive, one after the other.
func index(t testing.TB, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	for i, file := range []struct{ name, text string }{{".SIGN.RSA.test@example.org-1.rsa.pub", "signature"}, {"DESCRIPTION", "v1"}, {"APKINDEX", text}} {
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		managertest.Must(t, w.WriteHeader(&tar.Header{Name: file.name, Size: int64(len(file.text)), Mode: 0o644, Typeflag: tar.TypeReg}))
		_, err := w.Write([]byte(file.text))
		managertest.Must(t, err)
		if i == 2 {
			managertest.Must(t, w.Close())
		} else {
			managertest.Must(t, w.Flush()) // the archive goes on in the next stream
		}
		z := gzip.NewWriter(&out)
		_, err = z.Write(archive.Bytes())
		managertest.Must(t, errors.Join(err, z.Close()))
	}
	return out.Bytes()
}

// run stands for the sandbox.
func (w *world) run(spec sandbox.Spec) error {
	for _, f := range spec.Files {
		if f.Path == insideRepos {
			w.lists = append(w.lists, string(f.Data))
		}
	}
	if spec.Args[0] != "apk" {
		return nil
	}
	line := strings.Join(spec.Args, " ")
	_, tail, _ := strings.Cut(line, "--no-progress ")
	text, fails := w.answer(tail)
	if _, err := fmt.Fprint(spec.Stdout, text); err != nil {
		return err
	}
	if fails {
		return &command.ExitError{Line: line, Code: 1}
	}
	return nil
}

// with does something in a session of its own, with the repository main where none is named.
func (w *world) with(do func(s packages.Session) error, repos ...description.Repository) error {
	w.t.Helper()
	if len(repos) == 0 {
		main := w.Plain()
		main.Alias = "main"
		repos = append(repos, main)
	}
	return w.With(w.t, do, repos...)
}

// simulated is what apk prints for what it would install, and for what it installs.
const simulated = "(1/3) Installing musl (1.2.5-r0)\n(2/3) Installing busybox (1.36.1-r2)\nExecuting busybox-1.36.1-r2.post-install\n(3/3) Installing busybox-binsh@edge (1.36.1-r2)\nOK: 1 MiB in 3 packages\n"

func adds(tail string) (string, bool) {
	if strings.Contains(tail, "add ") && !strings.Contains(tail, "--initdb") {
		return simulated, false
	}
	return "", false
}

func TestBootstrap(t *testing.T) {
	w := newWorld(t)
	w.answer = adds
	what := managertest.Set("busybox", "busybox-binsh", "unwanted")
	what.Ignore = managertest.Packages(3, "unwanted")
	what.Products = managertest.Packages(4, "product")
	repo := description.Repository{Origin: managertest.Origin(7), Source: "dir://" + w.Repo, Alias: "main", SigningKeys: []description.SigningKey{{URI: "test@example.org-1.rsa.pub"}}}
	err := w.with(func(s packages.Session) error {
		err := s.Bootstrap(t.Context(), what)
		var got []string
		for _, p := range s.Installed() {
			got = append(got, fmt.Sprint(p, " ", p.Listed, " ", p.Download, " ", len(p.Checksum), " ", p.Repository))
		}
		want := []string{"busybox-1.36.1-r2.x86 true 500000 71 main", "busybox-binsh-1.36.1-r2.x86 true 1500 71 main", "musl-1.2.5-r0.x86 false 387712 71 main"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		return err
	}, repo)
	managertest.Must(t, err)
	common := "apk --root /run/imgbuild/target/ --arch x86 --cache-dir ../../../run/imgbuild/apk-cache --no-progress --repositories-file /run/imgbuild/apk-repositories --keys-dir ../../../run/imgbuild/apk/keys "
	want := []string{
		strings.Replace(common, insideRepos, "/dev/null", 1) + "--no-network add --initdb", common + "update", common + "--no-network add --simulate busybox busybox-binsh", common + "--no-network add busybox busybox-binsh",
		"rm -f /run/imgbuild/target/var/log/apk.log",
	}
	if diff := cmp.Diff(want, w.Commands); diff != "" {
		t.Error(diff)
	}
	if w.lists[0] != "file:///run/imgbuild/repositories/main\n" {
		t.Errorf("repositories %q", w.lists[0])
	}
	if !strings.Contains(w.Log.String(), "apk knows no products") {
		t.Error("nothing is said of the product")
	}
}

// network is a repository whose files apk has to fetch.
func (w *world) network() description.Repository {
	return description.Repository{Origin: managertest.Origin(9), Source: "https://user:s3%2Fcret@mirror.example/alpine/", Distribution: "v3.20", Components: []string{"main", "community"}}
}

// fetches stands for an apk that fetches into its cache.
func (w *world) fetches(cache func() string) func(string) (string, bool) {
	return func(tail string) (string, bool) {
		switch {
		case strings.HasSuffix(tail, " update"):
			// The beginning of the SHA-1 of https://mirror.example/alpine/v3.20/main/x86/APKINDEX.tar.gz.
			write(w.t, filepath.Join(cache(), "APKINDEX.81e7f3e4.tar.gz"), string(index(w.t, indexText)))
		case strings.Contains(tail, "cache download"):
			_, list, _ := strings.Cut(tail, "download ")
			for name := range strings.FieldsSeq(list) {
				write(w.t, filepath.Join(cache(), strings.Replace(name, "=", "-", 1)+".0a1b2c3d.apk"), name)
			}
		}
		return adds(tail)
	}
}

func TestCache(t *testing.T) {
	w := newWorld(t)
	w.Cache = t.TempDir()
	w.answer = w.fetches(func() string { return filepath.Join(w.Cache, "apk") })
	bootstrap := func(s packages.Session) error {
		err := s.Bootstrap(t.Context(), managertest.Set("busybox"))
		if err == nil && (len(s.Installed()) != 3 || s.Installed()[0].Repository == "") {
			t.Errorf("installed %+v", s.Installed())
		}
		return err
	}
	managertest.Must(t, w.with(bootstrap, w.network()))
	if !slices.ContainsFunc(w.Commands, func(c string) bool {
		return strings.HasSuffix(c, "--keys-dir ../../../usr/share/apk/keys/x86 cache download busybox=1.36.1-r2 busybox-binsh=1.36.1-r2 musl=1.2.5-r0")
	}) {
		t.Errorf("commands %q", w.Commands)
	}
	if want := "https://user:s3%2Fcret@mirror.example/alpine/v3.20/main\nhttps://user:s3%2Fcret@mirror.example/alpine/v3.20/community\n"; w.lists[0] != want {
		t.Errorf("repositories %q", w.lists[0])
	}
	if text := w.Log.String() + strings.Join(w.Commands, " "); strings.Contains(text, "s3") {
		t.Errorf("the password is told: %s", text)
	}
	w.Offline, w.Commands = true, nil
	managertest.Must(t, w.with(bootstrap, w.network()))
	for _, c := range w.Commands {
		if strings.HasPrefix(c, "apk ") && !strings.Contains(c, "--no-network") || strings.Contains(c, "update") || strings.Contains(c, "download") {
			t.Errorf("with the network: %s", c)
		}
	}
	managertest.Must(t, os.Remove(filepath.Join(w.Cache, "apk/musl-1.2.5-r0.0a1b2c3d.apk")))
	if err := w.with(bootstrap, w.network()); err == nil || !strings.Contains(err.Error(), "the package cache lacks musl=1.2.5-r0; build once with the network") {
		t.Errorf("error %v", err)
	}
}

func TestLocked(t *testing.T) {
	w := newWorld(t)
	w.answer = adds
	managertest.Must(t, w.with(func(s packages.Session) error {
		err := s.Bootstrap(t.Context(), managertest.Set("busybox"))
		w.Locked = s.Installed()
		return err
	}))
	bootstrap := func(s packages.Session) error { return s.Bootstrap(t.Context(), managertest.Set("busybox")) }
	managertest.Must(t, w.with(bootstrap))
	write(t, filepath.Join(w.Repo, "x86/musl-1.2.5-r0.apk"), "changed")
	if err := w.with(bootstrap); err == nil || !strings.Contains(err.Error(), "musl-1.2.5-r0.x86 has the checksum") {
		t.Errorf("error %v", err)
	}
	w.Locked = w.Locked[:1]
	w.Commands = nil
	if err := w.with(bootstrap); err == nil || !strings.Contains(err.Error(), "musl-1.2.5-r0.x86 is not in the lock file") {
		t.Errorf("error %v", err)
	}
	if last := w.Commands[len(w.Commands)-1]; !strings.Contains(last, "--simulate") {
		t.Errorf("something was installed: %s", last)
	}
}

const installedText = `C:Q1x=
P:musl
V:1.2.4-r0
A:x86
I:600000
F:lib
R:ld-musl-x86.so.1
a:0:0:755
Z:Q1y=
R:libc.musl-x86.so.1

C:Q1z=
P:busybox
V:1.36.1-r2
A:x86
I:900000
D:so:libc.musl-x86.so.1
F:
F:bin
R:busybox
F:etc
F:etc/network
R:config
F:lib
`

// inside makes a tree with apk and packages.
func (w *world) inside() {
	write(w.t, filepath.Join(w.Root, "sbin/apk"), "x")
	write(w.t, filepath.Join(w.Root, "lib/apk/db/installed"), installedText+"\n")
	for _, name := range []string{"lib/ld-musl-x86.so.1", "lib/libc.musl-x86.so.1", "bin/busybox", "bin/other", "etc/network/config", "etc/apk/world"} {
		write(w.t, filepath.Join(w.Root, name), name)
	}
}

func TestInside(t *testing.T) {
	w := newWorld(t)
	w.inside()
	w.answer = func(tail string) (string, bool) {
		if strings.Contains(tail, "upgrade") {
			return "(1/1) Upgrading musl (1.2.4-r0 -> 1.2.5-r0)\nOK: 1 MiB in 2 packages\n", false
		}
		return "", false
	}
	managertest.Must(t, w.with(func(s packages.Session) error {
		if err := s.Update(t.Context()); err != nil {
			return err
		}
		if got := s.Installed(); len(got) != 1 || got[0].Version != "1.2.5-r0" {
			t.Errorf("installed %v", got)
		}
		return s.Uninstall(t.Context(), managertest.Packages(3, "busybox", "absent"))
	}))
	common := "inside: apk --root / --arch x86 --cache-dir /run/imgbuild/apk-cache --no-progress --repositories-file /run/imgbuild/apk-repositories "
	want := []string{
		common + "update", common + "--no-network upgrade --simulate", common + "--no-network upgrade", "rm -f /run/imgbuild/target/var/log/apk.log",
		common + "--no-network del --rdepends busybox", "rm -f /run/imgbuild/target/var/log/apk.log",
	}
	if diff := cmp.Diff(want, w.Commands); diff != "" {
		t.Error(diff)
	}
}

// TestDelete removes a package that another one needs, which apk itself does not do.
func TestDelete(t *testing.T) {
	w := newWorld(t)
	w.inside()
	w.answer = func(string) (string, bool) {
		return "World updated, but the following packages are not removed due to:\n  musl: busybox\n\nOK: 1 MiB in 2 packages\n", false
	}
	managertest.Must(t, w.with(func(s packages.Session) error {
		return s.Delete(t.Context(), managertest.Packages(3, "musl", "absent"))
	}))
	var left []string
	managertest.Must(t, filepath.WalkDir(w.Root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			left = append(left, strings.TrimPrefix(path, w.Root+"/"))
		}
		return err
	}))
	if diff := cmp.Diff([]string{"bin/busybox", "bin/other", "etc/apk/world", "etc/network/config", "lib/apk/db/installed", "sbin/apk"}, left); diff != "" {
		t.Error(diff)
	}
	_, rest, _ := strings.Cut(installedText, "\n\n")
	if data, err := os.ReadFile(filepath.Join(w.Root, "lib/apk/db/installed")); string(data) != rest+"\n" {
		t.Errorf("%q, %v", data, err)
	}
	managertest.Must(t, w.with(func(s packages.Session) error { return s.Delete(t.Context(), managertest.Packages(3, "busybox")) }))
	if _, err := os.Stat(filepath.Join(w.Root, "etc/network")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory of the package is left: %v", err)
	}
	if data, err := os.ReadFile(filepath.Join(w.Root, "lib/apk/db/installed")); len(data) > 0 || err != nil {
		t.Errorf("%q, %v", data, err)
	}
	commands := len(w.Commands)
	managertest.Must(t, w.with(func(s packages.Session) error { return s.Delete(t.Context(), managertest.Packages(3, "busybox")) }))
	if len(w.Commands) > commands {
		t.Errorf("something ran: %q", w.Commands[commands:])
	}
}

func TestSimulate(t *testing.T) {
	w := newWorld(t)
	w.inside()
	w.answer = func(tail string) (string, bool) {
		if strings.Contains(tail, "add --simulate") {
			return "( 1/12) Upgrading musl (1.2.4-r0 -> 1.2.5-r0)\n( 2/12) Purging old (1-r0)\n(12/12) Installing strange (9-r9)\n", false
		}
		return "", false
	}
	managertest.Must(t, w.with(func(s packages.Session) error {
		got, err := s.Simulate(t.Context(), managertest.Set("strange"))
		want := packages.Transaction{Growth: 22592, Packages: []packages.Package{
			{Name: "musl", Version: "1.2.5-r0", Arch: "x86", Repository: "main", File: "musl-1.2.5-r0.apk", Download: 387712, Installed: 622592},
			{Name: "strange", Version: "9-r9", Arch: "x86", File: "strange-9-r9.apk", Download: -1, Installed: -1, Listed: true},
		}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		return err
	}))
}

func TestErrors(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct {
		on, says string // when, and what
		want     []string
	}{
		{"add --simulate", "ERROR: unable to select packages:\n  busyboks (no such package):\n    required by: world[busyboks]\n  zzz (no such package):\n    required by:\n                 world[zzz]\n", []string{
			`config.xml:12:5: no repository has the package busyboks; did you mean "busybox"?`, "no repository has the package zzz; check its name; the repositories are: dir://" + w.Repo,
		}},
		{"add --simulate", "ERROR: unable to select packages:\n  so:nowhere.so.1 (no such package):\n    required by: busyboks-1.0-r0[so:nowhere.so.1]\n", []string{"config.xml:12:5: the package busyboks-1.0-r0 needs so:nowhere.so.1, which no repository has"}},
		{"add --simulate", "ERROR: unable to select packages:\n  a-1:\n    conflicts: b-1\n", []string{"conflicts: b-1"}},
		{"add --simulate", "(1/1) Installing musl (1.2.5-r0)\n", []string{"config.xml:3:5: the package musl is to be ignored, but others need it"}},
		{"add busy", "(1/1) Installing busybox (1.36.1-r2)\nERROR: busybox-1.36.1-r2: No space left on device\n1 error; 0 MiB in 0 packages\n", []string{"there is no space left: busybox-1.36.1-r2"}},
		{"add busy", "ERROR: busybox-1.36.1-r2: UNTRUSTED signature\n", []string{"config.xml:7:5: repository dir://" + w.Repo + ": a signature can't be verified: busybox-1.36.1-r2: UNTRUSTED signature; add <signing"}},
		{"update", "WARNING: fetching file:///run/imgbuild/repositories/main/x86/APKINDEX.tar.gz: No such file or directory\n1 unavailable, 0 stale; 0 distinct packages available\n", []string{"config.xml:7:5", "it can't be read", "dir://" + w.Repo + "/x86/APKINDEX.tar.gz: No such"}},
		{"update", "WARNING: opening https://mirror.example/x86/APKINDEX.tar.gz: Permission denied\n", []string{"it refuses access", "username"}},
		{"update", "ERROR: https://mirror.example: could not connect to server (check repositories file)\n", []string{"it can't be read"}},
	} {
		w.Image.Packages.System.Ignore = nil
		if strings.Contains(test.want[0], "ignored") {
			w.Image.Packages.System.Ignore = managertest.Packages(3, "musl")
		}
		w.answer = func(tail string) (string, bool) {
			if strings.Contains(tail, test.on) {
				return test.says, !strings.Contains(test.says, "WARNING") && !strings.HasPrefix(test.says, "(1/1) Installing musl")
			}
			return "", false
		}
		err := w.with(func(s packages.Session) error { return s.Bootstrap(t.Context(), managertest.Set("busyboks", "zzz")) })
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: not %q: %v", test.says, want, err)
			}
		}
	}
	for _, name := range []string{"!musl", "--purge", "a b"} {
		if err := w.with(func(s packages.Session) error { return s.Bootstrap(t.Context(), managertest.Set(name)) }); err == nil || !strings.Contains(err.Error(), "can't install") {
			t.Errorf("%q is taken: %v", name, err)
		}
	}
	none := func(s packages.Session) error {
		s.(*Session).lines = nil
		return s.Bootstrap(t.Context(), managertest.Set("x"))
	}
	if err := w.with(none); err == nil || !strings.Contains(err.Error(), "no repositories") {
		t.Errorf("error %v", err)
	}
	bad := description.Repository{Source: "dir://" + w.Repo, SigningKeys: []description.SigningKey{{URI: "x86/APKINDEX.tar.gz"}}}
	if err := w.with(none, bad); err == nil || !strings.Contains(err.Error(), "no public key in PEM form") {
		t.Errorf("error %v", err)
	}
}

func TestUntrusted(t *testing.T) {
	w := newWorld(t)
	off := description.Repository{Source: "dir://" + w.Repo, PackageGPGCheck: description.False}
	on := description.Repository{Source: "dir://" + w.Repo, PackageGPGCheck: description.True, RepoGPGCheck: description.False}
	for i, test := range []struct {
		want  bool
		repos []description.Repository
	}{
		{true, []description.Repository{off, off}}, {false, []description.Repository{off, on}}, {false, []description.Repository{on}},
	} {
		managertest.Must(t, w.with(func(s packages.Session) error {
			if got := slices.Contains(s.(*Session).arguments(packages.Place{}, job{}), "--allow-untrusted"); got != test.want {
				t.Errorf("%d: untrusted %v", i, got)
			}
			return nil
		}, test.repos...))
	}
}

func TestWriteRepositories(t *testing.T) {
	w := newWorld(t)
	main := w.network()
	main.ImageInclude, main.SigningKeys = true, []description.SigningKey{{URI: "test@example.org-1.rsa.pub"}}
	image := w.Image
	image.Repositories = []description.Repository{
		main, {Source: "dir://" + w.Repo, ImageInclude: true}, {Source: "file:///media/cdrom/apks", ImageOnly: true}, {Source: "https://own.example/apks", ImageOnly: true, Customize: "edit.sh"},
	}
	set, err := repositories.Open(t.Context(), repositories.Options{Image: &image, Files: files.Source{Dir: w.Repo, FS: os.DirFS(w.Repo)}, Workdir: w.Work})
	managertest.Must(t, err)
	edit := layers.NewTree().Edit(layers.Timespec{})
	managertest.Must(t, edit.WriteFile(imageRepos, []byte("#comment"), 0o644))
	change := managertest.Change(t, files.Source{FS: fstest.MapFS{"edit.sh": {Data: []byte("echo https://own.example/more >> \"$1\"\n")}}})
	for range 2 {
		notes, err := WriteRepositories(edit, set, change)
		managertest.Must(t, err)
		if len(notes) != 2 {
			t.Errorf("notes %q", notes)
		}
	}
	for name, want := range map[string]string{
		imageRepos: "#comment\nhttps://mirror.example/alpine/v3.20/main\nhttps://mirror.example/alpine/v3.20/community\n/media/cdrom/apks\nhttps://own.example/apks\nhttps://own.example/more\n", imageKeys + "/test@example.org-1.rsa.pub": realKey,
	} {
		if data, err := edit.Tree().ReadFile(name, 1<<20); string(data) != want {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
}

// FuzzReadIndex checks that no index of a stranger is taken for something that it is not.
func FuzzReadIndex(f *testing.F) {
	f.Add(index(f, indexText))
	f.Add([]byte("\x1f\x8b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := readIndex(bytes.NewReader(data), 1<<20)
		if err != nil {
			return
		}
		for _, p := range list {
			if p.Name == "" || p.Version == "" || p.Download < -1 || p.Installed < -1 {
				t.Errorf("package %+v", p)
			}
		}
	})
}

// FuzzForce checks that deleting by a hostile database removes nothing outside of the root directory.
func FuzzForce(f *testing.F) {
	f.Add(installedText)
	f.Add("P:musl\nF:../outside\nR:file\n\n")
	f.Add("P:musl\nF:link\nR:file\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "outside/file"), "x")
		write(t, filepath.Join(dir, "root/db"), text)
		managertest.Must(t, os.Symlink("../outside", filepath.Join(dir, "root/link")))
		root, err := os.OpenRoot(filepath.Join(dir, "root"))
		managertest.Must(t, err)
		defer root.Close()
		_ = force(root, "db", []string{"musl"}) // an error is fine
		if _, err := os.Stat(filepath.Join(dir, "outside/file")); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}
