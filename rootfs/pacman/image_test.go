package pacman

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/testrepos"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/files"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/packages/managertest"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
)

// TestWriteRepositories reads the result with pacman-conf, and the keys with gpg.
func TestWriteRepositories(t *testing.T) {
	need(t)
	testenv.NeedPrograms(t, "pacman-conf")
	key := testrepos.NewKey(t, "one")
	dir := t.TempDir()
	image := &description.Image{Name: "test", Arch: "x86_64", Repositories: []description.Repository{
		{Source: "https://user:s3cret@mirror.example/$repo/os/$arch", Alias: "arch", Components: []string{"core", "own"}, ImageInclude: true, Customize: "edit.sh", SigningKeys: []description.SigningKey{{URI: key.Public}}},
		{Source: "https://other.example/own2", Alias: "own2", ImageOnly: true, PackageGPGCheck: description.False},
		{Source: "file:///media/packages", Alias: "media", ImageOnly: true},
		{Source: "dir://" + dir, Alias: "here", ImageInclude: true},
		{Source: "https://build.example/", Alias: "build"},
	}}
	set, err := repositories.Open(t.Context(), repositories.Options{Image: image, Files: files.Source{Dir: dir, FS: os.DirFS(dir)}, Workdir: dir})
	managertest.Must(t, err)
	edit := layers.NewTree().Edit(layers.Timespec{})
	managertest.Must(t, edit.WriteFile("etc/pacman.conf", []byte("[options]\nArchitecture = x86_64\nSigLevel = Required DatabaseOptional\n[core]\nInclude = /etc/pacman.d/mirrorlist\n"), 0o644))
	managertest.Must(t, edit.WriteFile("etc/pacman.d/mirrorlist", []byte("Server = https://default.example/$repo\n"), 0o644))
	// The script changes all sections, also the one that /etc/pacman.conf has already.
	change := managertest.Change(t, files.Source{FS: fstest.MapFS{"edit.sh": {Data: []byte("case $1 in */core.repo|*/own.repo) echo 'Usage = Search' >> \"$1\";; *) exit 1;; esac\n")}}})
	notes, err := WriteRepositories(edit, set, change)
	managertest.Must(t, err)
	for i, want := range []string{"needs a user name and password", "pacman-key --populate arch", "is a directory of this machine"} {
		if i >= len(notes) || !strings.Contains(notes[i], want) {
			t.Errorf("note %d of %q is not %q", i, notes, want)
		}
	}
	if len(notes) != 3 {
		t.Errorf("notes %q", notes)
	}
	if _, err := WriteRepositories(edit, set, change); err != nil { // a second time changes nothing
		t.Fatal(err)
	}
	root := filepath.Join(t.TempDir(), "root")
	_, err = layers.WriteDir(t.Context(), root, edit.Tree(), layers.DirOptions{})
	managertest.Must(t, err)
	data, err := os.ReadFile(filepath.Join(root, imageConf))
	managertest.Must(t, err)
	conf := filepath.Join(t.TempDir(), "pacman.conf")
	managertest.Must(t, os.WriteFile(conf, []byte(strings.ReplaceAll(string(data), "= /etc/", "= "+root+"/etc/")), 0o644))
	for section, want := range map[string]string{
		"core":  "Usage = Search\nServer = https://mirror.example/core/os/x86_64\nServer = https://default.example/core\n",
		"own":   "Usage = Search\nSigLevel = PackageRequired\nSigLevel = PackageTrustedOnly\nSigLevel = DatabaseOptional\nSigLevel = DatabaseTrustedOnly\nServer = https://mirror.example/own/os/x86_64\n",
		"own2":  "Usage = All\nSigLevel = PackageNever\nSigLevel = DatabaseOptional\nSigLevel = DatabaseTrustedOnly\nServer = https://other.example/own2\n",
		"media": "Usage = All\nServer = file:///media/packages\n",
	} {
		got, err := exec.Command(testenv.NeedProgram(t, "pacman-conf"), "--config", conf, "--repo", section).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, got)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s: %s", section, diff)
		}
	}
	managertest.Must(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), "s3cret") {
			t.Errorf("%s has the password", path)
		}
		return err
	}))
	shown := testenv.Run(t, "gpg", "--homedir", t.TempDir(), "--no-autostart", "--show-keys", "--with-colons", filepath.Join(root, imageKeys, "arch.gpg"))
	trusted, err := os.ReadFile(filepath.Join(root, imageKeys, "arch-trusted"))
	managertest.Must(t, err)
	if fingerprint, ok := strings.CutSuffix(string(trusted), ":4:\n"); !ok || !strings.Contains(shown, ":"+fingerprint+":") {
		t.Errorf("%q is not in %s", trusted, shown)
	}
}

// TestOwnRepositories takes those of the tree's /etc/pacman.conf.
func TestOwnRepositories(t *testing.T) {
	need(t)
	w := newWorld(t, testrepos.PacmanRepo{Packages: few()})
	w.makeInside(t)
	managertest.Must(t, os.WriteFile(filepath.Join(w.Root, databaseDir, "db.lck"), nil, 0o644)) // of a run that was killed
	server := testrepos.Serve(t, w.Repo, "", "")
	managertest.Must(t, os.WriteFile(filepath.Join(w.Root, "etc/pacman.conf"), []byte("[options]\nCacheDir = /nowhere\nDownloadUser = alpm\nCheckSpace\nSigLevel = Never\n\n[test]\nServer = "+server.URL+"\n"), 0o644))
	if err := w.with(t, []description.Repository{}, func(s packages.Session) error { return s.Install(t.Context(), managertest.Set("hello")) }); err != nil {
		t.Fatalf("%v\n%s", err, w.Log.String())
	}
	w.wantInstalled(t, "greeting-1:2.0-3 (needed)", "hello-1.0-1")
	w.Offline = true
	err := w.with(t, []description.Repository{}, func(s packages.Session) error { return s.Install(t.Context(), managertest.Set("extra")) })
	wantError(t, err, "", "--offline")
}

func TestSections(t *testing.T) {
	need(t)
	w := newWorld(t, testrepos.PacmanRepo{Packages: few()})
	network := func(alias, source string, priority int) description.Repository {
		return description.Repository{Origin: managertest.Origin(9), Alias: alias, Source: source, Priority: priority}
	}
	s, err := w.Open(t, network("b", "https://b.example/x", 0), network("a", "https://a.example/$repo", 1), network("b", "https://mirror.example/b", 0), description.Repository{Source: "dir://" + w.Repo, Priority: 200})
	managertest.Must(t, err)
	conf := s.(*Session).configuration(packages.Place{}, nil)
	_, sections, _ := strings.Cut(conf, "\n\n")
	want := `[a]
Server = https://a.example/$repo
SigLevel = PackageNever DatabaseNever

[b]
Server = https://b.example/x
Server = https://mirror.example/b
SigLevel = PackageNever DatabaseNever

[test]
`
	if !strings.HasPrefix(sections, want) {
		t.Error(cmp.Diff(want, sections))
	}
	managertest.Must(t, s.Close())
	secret := network("b", "https://u:p@mirror.example/b", 0)
	for _, test := range []struct {
		want  string
		repos []description.Repository
	}{
		{"doesn't say what its database", []description.Repository{network("", "https://a.example/", 0)}},
		{`can't have a repository with the name "local"`, []description.Repository{network("local", "https://a.example/", 0)}},
		{`can't have a repository with the name "a]b"`, []description.Repository{network("a]b", "https://a.example/", 0)}},
		{"the directory has 0 databases", []description.Repository{network("", "dir://"+t.TempDir(), 0)}},
		{"two repositories with different credentials have the database b", []description.Repository{network("b", "https://a.example/", 0), secret}},
	} {
		_, err := w.Open(t, test.repos...)
		wantError(t, err, "config.xml:9:5", test.want)
	}
}

// archive is a database with the given files.
func archive(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, text := range files {
		managertest.Must(t, w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o644, Typeflag: tar.TypeReg}))
		_, err := w.Write([]byte(text))
		managertest.Must(t, err)
	}
	managertest.Must(t, w.Close())
	return out.Bytes()
}

func TestReadList(t *testing.T) {
	plain := archive(t, map[string]string{
		"hello-1-1/desc":  "%FILENAME%\nhello-1-1-any.pkg.tar.zst\n\n%NAME%\nhello\n\n%VERSION%\n1-1\n\n%GROUPS%\na\nb\n\n%CSIZE%\n10\n\n%ISIZE%\n20\n\n%SHA256SUM%\nAB\n\n%ARCH%\nany\n",
		"hello-1-1/files": "%FILES%\nx\n",
	})
	var gz, zst, xzed bytes.Buffer
	g := gzip.NewWriter(&gz)
	z, err := zstd.NewWriter(&zst)
	managertest.Must(t, err)
	x, err := xz.NewWriter(&xzed)
	managertest.Must(t, err)
	for _, w := range []interface {
		Write([]byte) (int, error)
		Close() error
	}{g, z, x} {
		_, err := w.Write(plain)
		managertest.Must(t, errors.Join(err, w.Close()))
	}
	want := entry{
		Package: packages.Package{Name: "hello", Version: "1-1", Arch: "any", File: "hello-1-1-any.pkg.tar.zst", Download: 10, Installed: 20, Checksum: "sha256:ab"}, groups: []string{"a", "b"},
	}
	for name, data := range map[string][]byte{"plain": plain, "gzip": gz.Bytes(), "zstd": zst.Bytes(), "xz": xzed.Bytes()} {
		got, err := readList(bytes.NewReader(data), maxList)
		if err != nil || len(got) != 1 {
			t.Fatalf("%s: %v, %v", name, got, err)
		}
		if diff := cmp.Diff(want, got[0], cmp.AllowUnexported(entry{})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for _, bad := range []string{
		"%NAME%\nx\n\n%VERSION%\n1-1\n\n%FILENAME%\n../x\n", "%NAME%\nx\n", "%NAME%\nx\n\n%VERSION%\n1\n\n%FILENAME%\nx\n\n%CSIZE%\nmany\n", "%NAME%\nx\n\n%VERSION%\n1\n\n%FILENAME%\nx\n\n%ISIZE%\n-1\n",
	} {
		if got, err := readList(bytes.NewReader(archive(t, map[string]string{"x/desc": bad})), maxList); err == nil {
			t.Errorf("%q is taken: %v", bad, got)
		}
	}
}

// FuzzReadList checks that no file name leads anywhere else, whatever a server sends.
func FuzzReadList(f *testing.F) {
	f.Add(archive(f, map[string]string{"a/desc": "%NAME%\nx\n\n%VERSION%\n1-1\n\n%FILENAME%\nx\n\n%CSIZE%\n1\n"}))
	f.Add([]byte("\x1f\x8b\x08"))
	f.Add([]byte("BZh9"))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := readList(bytes.NewReader(data), 1<<20)
		if err != nil {
			return
		}
		for _, e := range entries {
			if e.Name == "" || e.Version == "" || filepath.Base(e.File) != e.File || e.Download < -1 || e.Installed < -1 {
				t.Errorf("entry %+v", e)
			}
		}
	})
}
