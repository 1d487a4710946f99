package apt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/files"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/packages/managertest"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
	"github.com/imgbuild/imgbuild/rootfs/toolbox"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	userns.MustEnter()
	code := m.Run()
	if err := keys.remove(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// asBoth runs a test as root and again as an ordinary user.
func asBoth(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	testenv.NeedPrograms(t, "apt-get", "dpkg-deb", "apt-ftparchive", "gpg", "gpgv")
	testenv.AsBoth(t, test)
}

// world is a tree with apt, and repositories to install from.
type world struct {
	root, repo, key, otherKey string
	log                       *bytes.Buffer
	commands                  []string // command lines of everything that ran
	nothing                   bool     // the tree has no apt
}

// newWorld makes a tree that borrows the host's programs, and a signed repository with tiny packages.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{root: t.TempDir(), repo: t.TempDir(), log: &bytes.Buffer{}}
	for _, dir := range []string{
		"usr/bin", "usr/lib", "usr/lib64", "usr/sbin", "usr/share", "etc/apt/apt.conf.d", "etc/apt/trusted.gpg.d", "etc/dpkg/dpkg.cfg.d", "var/lib/dpkg/info", "var/lib/dpkg/updates",
		"var/lib/dpkg/triggers", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/log/apt", "root", "tmp",
	} {
		must(t, os.MkdirAll(filepath.Join(w.root, dir), 0o755))
	}
	for _, link := range []string{"bin", "lib", "lib64", "sbin"} {
		must(t, os.Symlink("usr/"+link, filepath.Join(w.root, link)))
	}
	for name, text := range map[string]string{
		"var/lib/dpkg/status": "", "var/lib/dpkg/available": "", "etc/apt/sources.list": "deb http://image.invalid/ x y\n", "etc/group": "root:x:0:\nnogroup:x:65534:\n",
		"etc/passwd":                 "root:x:0:0:root:/root:/bin/sh\n_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n",
		"etc/apt/apt.conf.d/docker":  "Dir::Cache::pkgcache \"\";\nAcquire::GzipIndexes \"true\";\n",
		"usr/sbin/ldconfig":          "#!/bin/sh\n",
		"usr/sbin/start-stop-daemon": "#!/bin/sh\n",
	} {
		must(t, os.WriteFile(filepath.Join(w.root, name), []byte(text), 0o755))
	}
	w.makePackages(t)
	w.key, w.otherKey = filepath.Join(keys.home(t, "one"), "public.asc"), filepath.Join(keys.home(t, "two"), "public.asc")
	w.index(t, "one")
	must(t, filepath.WalkDir(w.repo, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chmod(path, 0o755))
	}))
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// makePackages puts packages into the repository's pool.
func (w *world) makePackages(t *testing.T) {
	t.Helper()
	for _, p := range []struct{ name, version, fields, postinst string }{
		{"hello", "1.0", "Depends: greeting (>= 1)\nRecommends: extra\n", ""},
		{"greeting", "1:2.0-1", "", "echo INITRD=$INITRD > /opt/initrd; update-initramfs -u; ls /run/systemd/system 2>/dev/null > /opt/systemd; true"},
		{"extra", "3", "", ""},
		{"broken", "1", "", "echo this can not work; exit 3"},
		{"needy", "1", "Depends: nowhere\n", ""},
	} {
		w.makePackage(t, p.name, p.version, p.fields, p.postinst, []byte(p.name))
	}
}

// makePackage makes a package with the file /opt/NAME/file.
func (w *world) makePackage(t *testing.T, name, version, fields, postinst string, content []byte) {
	t.Helper()
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "DEBIAN"), 0o755))
	must(t, os.MkdirAll(filepath.Join(dir, "opt", name), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "opt", name, "file"), content, 0o644))
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: Test <test@example.org>\nDescription: test\n%s", name, version, fields)
	must(t, os.WriteFile(filepath.Join(dir, "DEBIAN/control"), []byte(control), 0o644))
	if postinst != "" {
		must(t, os.WriteFile(filepath.Join(dir, "DEBIAN/postinst"), []byte("#!/bin/sh\n"+postinst+"\n"), 0o755))
	}
	must(t, os.Chmod(dir, 0o755))
	must(t, os.MkdirAll(filepath.Join(w.repo, "pool"), 0o755))
	testenv.Run(t, "dpkg-deb", "--root-owner-group", "-b", dir, filepath.Join(w.repo, "pool"))
}

// keys are the signing keys of all tests: making one takes a moment.
var keys keyring

type keyring struct {
	mu    sync.Mutex
	homes map[string]string
}

// home returns the gpg directory with the named key, which is made when it is asked for first.
func (k *keyring) home(t *testing.T, name string) string {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if home, ok := k.homes[name]; ok {
		return home
	}
	home, err := os.MkdirTemp("", "gpg-") // short: gpg's agent listens there
	must(t, err)
	if k.homes == nil {
		k.homes = map[string]string{}
	}
	k.homes[name] = home
	testenv.Run(t, "gpg", "--homedir", home, "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", name+"@example.org", "ed25519", "sign", "never")
	testenv.Run(t, "gpg", "--homedir", home, "--batch", "--quiet", "--armor", "--output", filepath.Join(home, "public.asc"), "--export")
	return home
}

// remove stops gpg's agents and removes their directories.
func (k *keyring) remove() error {
	var errs []error
	for _, home := range k.homes {
		errs = append(errs, exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run(), os.RemoveAll(home))
	}
	return errors.Join(errs...)
}

// index writes the repository's indexes: a flat one at its top and the suite "stable" with the component "main", signed by the named key.
func (w *world) index(t *testing.T, key string) {
	t.Helper()
	home := keys.home(t, key)
	arch := strings.TrimSpace(testenv.Run(t, "dpkg", "--print-architecture"))
	suite := filepath.Join(w.repo, "dists/stable")
	must(t, os.MkdirAll(filepath.Join(suite, "main/binary-"+arch), 0o755))
	run := func(dir, script string) { testenv.Run(t, "sh", "-ec", "cd "+dir+"; "+script) }
	run(w.repo, "apt-ftparchive packages pool > Packages; cp Packages dists/stable/main/binary-"+arch+"/Packages")
	for _, dir := range []string{suite, w.repo} {
		if dir == w.repo {
			must(t, os.Rename(filepath.Join(w.repo, "dists"), filepath.Join(w.repo, "..", filepath.Base(w.repo)+".dists")))
		}
		run(dir, "apt-ftparchive -o APT::FTPArchive::Release::Suite=stable -o APT::FTPArchive::Release::Codename=stable -o APT::FTPArchive::Release::Components=main -o APT::FTPArchive::Release::Architectures='"+arch+"' release . > ../Release.new; mv ../Release.new Release")
		run(dir, "rm -f InRelease; gpg --homedir "+home+" --batch --quiet --pinentry-mode loopback --passphrase '' --clearsign --output InRelease Release")
	}
	must(t, os.Rename(filepath.Join(w.repo, "..", filepath.Base(w.repo)+".dists"), filepath.Join(w.repo, "dists")))
}

// tree is what the sessions see of the world's tree.
func (w *world) tree(ctx context.Context) (*layers.Tree, error) {
	tree, _, err := layers.ScanDir(ctx, w.root, layers.ScanOptions{KeepVolatile: true})
	if err != nil || w.nothing {
		return tree, err
	}
	edit := tree.Edit(layers.Timespec{})
	err = errors.Join(edit.WriteFile("usr/bin/apt-get", []byte("x"), 0o755), edit.WriteFile("etc/apt/trusted.gpg.d/x.asc", []byte("x"), 0o755))
	return edit.Tree(), err
}

// open starts a session with the given repositories.
func (w *world) open(t *testing.T, cache string, repos ...description.Repository) (packages.Session, error) {
	t.Helper()
	opts, err := w.options(t, cache, repos...)
	if err != nil {
		return nil, err
	}
	return Open(t.Context(), opts)
}

func (w *world) options(t *testing.T, cache string, repos ...description.Repository) (packages.Options, error) {
	t.Helper()
	image := &description.Image{Name: "test", Arch: "x86_64", PackageManager: "apt", Repositories: repos}
	source := files.Source{Dir: w.repo, FS: os.DirFS(w.repo)}
	set, err := repositories.Open(t.Context(), repositories.Options{Image: image, Files: source, Workdir: t.TempDir()})
	if err != nil {
		return packages.Options{}, err
	}
	box := toolbox.Open(toolbox.Options{Workdir: t.TempDir()})
	t.Cleanup(func() { must(t, box.Close()) })
	return packages.Options{
		Image: image, Repositories: set, Files: source, Tree: w.tree, Inside: w.run, Arch: "x86_64",
		Outside: func(ctx context.Context, spec sandbox.Spec) error {
			spec.Target = w.root
			w.commands = append(w.commands, strings.Join(spec.Args, " "))
			return box.Run(ctx, spec)
		},
		Unpacked: func(context.Context) (string, error) { return w.root, nil },
		Workdir:  t.TempDir(), Cache: cache, Progress: progress.Discard, Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}, nil
}

// run runs a program in the tree, with the host's programs and libraries.
func (w *world) run(ctx context.Context, spec sandbox.Spec) error {
	spec.Root = w.root
	w.commands = append(w.commands, strings.Join(spec.Args, " "))
	for _, dir := range []string{"/usr/bin", "/usr/lib", "/usr/lib64", "/usr/share"} {
		if _, err := os.Stat(dir); err == nil {
			spec.Binds = append(spec.Binds, sandbox.Bind{Source: dir, Target: dir, ReadOnly: true})
		}
	}
	return sandbox.Run(ctx, spec)
}

func pkg(line int, names ...string) []description.Package {
	var list []description.Package
	for _, name := range names {
		list = append(list, description.Package{Name: name, Origin: description.Origin{Pos: description.Position{File: "config.xml", Line: line, Column: 9}}})
	}
	return list
}

func (w *world) install(t *testing.T, cache string, repo description.Repository, recommended bool, packages ...string) error {
	t.Helper()
	s, err := w.open(t, cache, repo)
	if err != nil {
		return err
	}
	defer func() { must(t, s.Close()) }()
	return s.Install(t.Context(), description.PackageSet{Packages: pkg(12, packages...), PlusRecommended: recommended})
}

// installed lists what the tree's database has.
func (w *world) installed(t *testing.T) string {
	t.Helper()
	return testenv.Run(t, "dpkg-query", "--admindir", filepath.Join(w.root, "var/lib/dpkg"), "-W", "-f", "${Package} ${Version} ${db:Status-Status}\n")
}

func origin(line int) description.Origin {
	return description.Origin{Pos: description.Position{File: "config.xml", Line: line, Column: 5}}
}

func (w *world) flat() description.Repository {
	return description.Repository{Origin: origin(7), Source: "dir://" + w.repo, SigningKeys: []description.SigningKey{{URI: "file://" + w.key}}}
}

func TestInstall(t *testing.T) { asBoth(t, testInstall) }

func testInstall(t *testing.T) {
	w := newWorld(t)
	if err := w.install(t, "", w.flat(), false, "hello"); err != nil {
		t.Fatalf("%v\n%s", err, w.log)
	}
	if diff := cmp.Diff("greeting 1:2.0-1 installed\nhello 1.0 installed\n", w.installed(t)); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string]string{"opt/hello/file": "hello", "opt/initrd": "INITRD=No\n", "opt/systemd": "", "etc/apt/sources.list": "deb http://image.invalid/ x y\n"} {
		if got, err := os.ReadFile(filepath.Join(w.root, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	// Neither lists nor archives nor logs of the build stay in the tree.
	for _, dir := range []string{"var/lib/apt/lists", "var/cache/apt", "var/log", "run", "tmp", "etc/apt"} {
		must(t, filepath.WalkDir(filepath.Join(w.root, dir), func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && !e.IsDir() && !strings.HasSuffix(path, "sources.list") && !strings.HasSuffix(path, "/docker") {
				t.Errorf("%s was left", path)
			}
			return err
		}))
	}
}

func TestRepositories(t *testing.T) { asBoth(t, testRepositories) }

func testRepositories(t *testing.T) {
	w := newWorld(t)
	testenv.Run(t, "gpg", "--batch", "--quiet", "--dearmor", "--output", filepath.Join(w.repo, "key.gpg"), w.key)
	must(t, os.Chmod(filepath.Join(w.repo, "key.gpg"), 0o644))
	server := httptest.NewServer(http.FileServer(http.Dir(w.repo)))
	defer server.Close()
	for _, test := range []struct {
		name string
		repo description.Repository
	}{
		{"suite over http", description.Repository{Source: server.URL, Distribution: "stable", SigningKeys: []description.SigningKey{{URI: server.URL + "/key.gpg"}}, Priority: 700}},
		{"flat over http", description.Repository{Source: server.URL + "/", SigningKeys: []description.SigningKey{{URI: "file:" + w.otherKey}, {URI: w.key}}}},
		{"suite of a file", description.Repository{Source: "file://" + w.repo, Distribution: "stable", Components: []string{"main"}, SigningKeys: []description.SigningKey{{URI: "this://key.gpg"}}}},
		{"beside the description", description.Repository{Source: "this://.", RepoGPGCheck: description.False}},
	} {
		t.Run(test.name, func(t *testing.T) {
			must(t, os.WriteFile(filepath.Join(w.root, "var/lib/dpkg/status"), nil, 0o644))
			if err := w.install(t, "", test.repo, false, "extra"); err != nil {
				t.Fatalf("%v\n%s", err, w.log)
			}
			if diff := cmp.Diff("extra 3 installed\n", w.installed(t)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRecommendedAndRemoval(t *testing.T) { asBoth(t, testRecommendedAndRemoval) }

func testRecommendedAndRemoval(t *testing.T) {
	w := newWorld(t)
	s, err := w.open(t, "", w.flat())
	must(t, err)
	defer func() { must(t, s.Close()) }()
	plan, err := s.Simulate(t.Context(), description.PackageSet{Packages: pkg(1, "hello"), PlusRecommended: true})
	must(t, err)
	if diff := cmp.Diff([]string{"extra-3.all", "greeting-1:2.0-1.all", "hello-1.0.all listed"}, names(plan.Packages)); diff != "" {
		t.Error(diff)
	}
	must(t, s.Install(t.Context(), description.PackageSet{Packages: pkg(1, "hello"), PlusRecommended: true}))
	if diff := cmp.Diff("extra 3 installed\ngreeting 1:2.0-1 installed\nhello 1.0 installed\n", w.installed(t)); diff != "" {
		t.Error(diff)
	}
	must(t, s.Delete(t.Context(), pkg(1, "greeting")))
	if diff := cmp.Diff("extra 3 installed\nhello 1.0 installed\n", w.installed(t)); diff != "" {
		t.Error(diff)
	}
	must(t, s.Install(t.Context(), description.PackageSet{Packages: pkg(1, "greeting")}))
	must(t, s.Uninstall(t.Context(), pkg(1, "greeting")))
	if diff := cmp.Diff("", w.installed(t)); diff != "" {
		t.Error(diff)
	}
}

// names are packages in short, sorted.
func names(list []packages.Package) []string {
	var out []string
	for _, p := range list {
		text := p.String()
		if p.Listed {
			text += " listed"
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return out
}

func TestErrors(t *testing.T) { asBoth(t, testErrors) }

func testErrors(t *testing.T) {
	w := newWorld(t)
	with := func(change func(*description.Repository)) description.Repository {
		repo := w.flat()
		change(&repo)
		return repo
	}
	for _, test := range []struct {
		name    string
		repo    description.Repository
		install string
		at      string // the beginning of the error
		want    []string
	}{
		{"unknown package", w.flat(), "nonsense", "config.xml:12:9: no repository has the package nonsense", []string{"dir://" + w.repo}},
		{"unmet dependency", w.flat(), "needy", "", []string{"needy : Depends: nowhere"}},
		{"failing script", w.flat(), "broken", "", []string{"this can not work", "broken"}},
		{"wrong key", with(func(r *description.Repository) { r.SigningKeys[0].URI = w.otherKey }), "hello", "config.xml:7:5: ", []string{"signature", "dir://" + w.repo, "<signing key"}},
		{"no key", with(func(r *description.Repository) { r.SigningKeys = nil }), "hello", "config.xml:7:5: ", []string{"signature"}},
		{"no directory", with(func(r *description.Repository) { r.Source = "dir:///nowhere/at/all" }), "hello", "config.xml:7:5: ", []string{"/nowhere/at/all"}},
		{"no such suite", with(func(r *description.Repository) { r.Distribution = "none" }), "hello", "config.xml:7:5: ", []string{"can't be read"}},
		{"nobody there", with(func(r *description.Repository) { r.Source = "http://127.0.0.1:9/x" }), "hello", "config.xml:7:5: ", []string{"http://127.0.0.1:9/x", "can't be read"}},
		{"unknown scheme", with(func(r *description.Repository) { r.Source = "gopher://u:secret@x" }), "hello", "config.xml:7:5: ", []string{"gopher"}},
		{"bad key", with(func(r *description.Repository) { r.SigningKeys[0].URI = "/etc/hostname" }), "hello", "", []string{"/etc/hostname", "no OpenPGP"}},
		{"blank in password", with(func(r *description.Repository) { r.Password = "sec ret" }), "hello", "config.xml:7:5: ", []string{"blanks"}},
		{"rpm", with(func(r *description.Repository) { r.Type = "rpm-md" }), "hello", "config.xml:7:5: ", []string{"rpm-md"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.name == "nobody there" && testenv.InUserNamespace() {
				t.Skip("tried as root already; apt takes its time over it")
			}
			must(t, os.WriteFile(filepath.Join(w.root, "var/lib/dpkg/status"), nil, 0o644))
			err := w.install(t, "", test.repo, false, test.install)
			if err == nil {
				t.Fatal("no error")
			}
			text := err.Error()
			if i := strings.Index(text, "config.xml"); test.at != "" && (i < 0 || !strings.HasPrefix(text[i:], test.at)) {
				t.Errorf("error %q, want %q", text, test.at)
			}
			for _, want := range test.want {
				if !strings.Contains(text, want) {
					t.Errorf("error %q has no %q", text, want)
				}
			}
			if strings.Contains(text, "secret") {
				t.Errorf("the error tells a secret: %q", text)
			}
		})
	}
}

// TestCredentials fetches from a server that asks for a password, and looks for it everywhere it must not be.
func TestCredentials(t *testing.T) { asBoth(t, testCredentials) }

func testCredentials(t *testing.T) {
	w := newWorld(t)
	const user, password = "builder", "s3cr3t/pass"
	var mu sync.Mutex
	allowed := 0
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if u, p, ok := r.BasicAuth(); !ok || u != user || p != password {
			rw.Header().Set("WWW-Authenticate", "Basic realm=x")
			http.Error(rw, "no", http.StatusUnauthorized)
			return
		}
		mu.Lock()
		allowed++
		mu.Unlock()
		http.FileServer(http.Dir(w.repo)).ServeHTTP(rw, r)
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	for _, repo := range []description.Repository{
		{Origin: origin(7), Source: server.URL, Username: user, Password: password, RepoGPGCheck: description.False},
		{Origin: origin(7), Source: "http://builder:s3cr3t%2Fpass@" + host + "/", RepoGPGCheck: description.False},
	} {
		must(t, os.WriteFile(filepath.Join(w.root, "var/lib/dpkg/status"), nil, 0o644))
		if err := w.install(t, "", repo, false, "extra"); err != nil {
			t.Fatalf("%v\n%s", err, w.log)
		}
	}
	err := w.install(t, "", description.Repository{Origin: origin(7), Source: server.URL, Username: user, Password: "wr0ng", RepoGPGCheck: description.False}, false, "hello")
	if err == nil || !strings.Contains(err.Error(), "config.xml:7:5: ") || !strings.Contains(err.Error(), "username and password") || strings.Contains(err.Error(), "wr0ng") {
		t.Errorf("error %v", err)
	}
	if allowed == 0 {
		t.Error("the server was not asked")
	}
	places := map[string]string{"log": w.log.String(), "process list": strings.Join(w.commands, "\n")}
	must(t, filepath.WalkDir(w.root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		places[path] = string(data)
		return err
	}))
	for place, text := range places {
		for _, secret := range []string{"s3cr3t", "wr0ng"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s has the password", place)
			}
		}
	}
}

func TestCache(t *testing.T) { asBoth(t, testCache) }

func testCache(t *testing.T) {
	w := newWorld(t)
	cache := filepath.Join(t.TempDir(), "cache")
	var mu sync.Mutex
	fetched, lists := 0, 0
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".deb") {
			mu.Lock()
			fetched++
			mu.Unlock()
		}
		if strings.Contains(r.URL.Path, "/Packages") {
			mu.Lock()
			lists++
			mu.Unlock()
		}
		http.FileServer(http.Dir(w.repo)).ServeHTTP(rw, r)
	}))
	defer server.Close()
	repo := description.Repository{Source: server.URL, RepoGPGCheck: description.False}
	for i, want := range []int{2, 2, 3} {
		must(t, os.WriteFile(filepath.Join(w.root, "var/lib/dpkg/status"), nil, 0o644))
		if i == 2 { // a damaged file is fetched again
			names, err := filepath.Glob(filepath.Join(cache, "apt", "*.deb"))
			must(t, err)
			if len(names) != 2 {
				t.Fatalf("cache: %v", names)
			}
			must(t, os.Truncate(names[0], 10))
		}
		if err := w.install(t, cache, repo, false, "hello"); err != nil {
			t.Fatalf("%v\n%s", err, w.log)
		}
		if fetched != want {
			t.Errorf("run %d: %d packages fetched in all, want %d", i+1, fetched, want)
		}
		if lists != 1 {
			t.Errorf("run %d: lists were fetched %d times in all", i+1, lists)
		}
	}
}

func TestWriteRepositories(t *testing.T) {
	dir := t.TempDir()
	testenv.NeedProgram(t, "gpg")
	key := filepath.Join(keys.home(t, "one"), "public.asc")
	testenv.Run(t, "gpg", "--batch", "--quiet", "--dearmor", "--output", filepath.Join(dir, "key.gpg"), key)
	ring, err := os.ReadFile(filepath.Join(dir, "key.gpg"))
	must(t, err)
	edit := layers.NewTree().Edit(layers.Timespec{})
	set, err := repositories.Open(t.Context(), repositories.Options{Workdir: t.TempDir(), Files: files.Source{Dir: dir, FS: os.DirFS(dir)}, Image: &description.Image{Repositories: []description.Repository{
		{Source: "http://build.example.org/x"},
		{Source: "obs://Virtualization:Appliances/xUbuntu_22.04", Alias: "obs", ImageInclude: true},
		{Source: "https://user:pass@deb.example.org/debian", Distribution: "bookworm", Components: []string{"main", "contrib"}, Alias: "Debian main", ImageInclude: true, Priority: 600, SigningKeys: []description.SigningKey{{URI: "this://key.gpg"}}},
		{Source: "http://flat.example.org/", ImageOnly: true, RepoGPGCheck: description.False, Alias: "flat", Customize: "edit.sh"},
		{Source: "dir://" + dir, ImageInclude: true},
	}}})
	must(t, err)
	scripts := files.Source{FS: fstest.MapFS{"edit.sh": {Data: []byte("echo \"X-File: ${1##*/}\" >> \"$1\"\n")}}}
	notes, err := WriteRepositories(edit, set, managertest.Change(t, scripts))
	must(t, err)
	if len(notes) != 2 || strings.Contains(notes[0]+notes[1], "pass@") {
		t.Errorf("notes %q", notes)
	}
	got := map[string]string{}
	must(t, edit.Tree().Walk(func(name string, n *layers.Node) error {
		if !n.IsRegular() {
			return nil
		}
		r, err := n.Open()
		if err != nil {
			return err
		}
		data, err := io.ReadAll(r)
		got[name] = string(data)
		return err
	}))
	want := map[string]string{
		"etc/apt/keyrings/Debian_main.gpg":           string(ring),
		"etc/apt/sources.list.d/Debian_main.sources": "Types: deb\nURIs: https://deb.example.org/debian\nSuites: bookworm\nComponents: main contrib\nSigned-By: /etc/apt/keyrings/Debian_main.gpg\n",
		"etc/apt/preferences.d/Debian_main.pref":     "Package: *\nPin: origin \"deb.example.org\"\nPin-Priority: 600\n\n",
		"etc/apt/sources.list.d/obs.sources":         "Types: deb\nURIs: https://download.opensuse.org/repositories/Virtualization:/Appliances/xUbuntu_22.04\nSuites: ./\n",
		"etc/apt/sources.list.d/flat.sources":        "Types: deb\nURIs: http://flat.example.org/\nSuites: ./\nTrusted: yes\nCheck-Valid-Until: no\nX-File: flat.sources\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseURIs(t *testing.T) {
	got := parseURIs("Reading package lists...\n'http://h/p/x_1%3a2_all.deb' x_1%3a2_all.deb 123 SHA256:ab\n'file:/r/y.deb' y_1_amd64.deb 5\n'bad\n'u' ../x 1\n")
	want := []download{
		{packages.Package{Name: "x", Version: "1:2", Arch: "all", Checksum: "sha256:ab", File: "x_1%3a2_all.deb", Download: 123, Installed: -1}, "http://h/p/x_1%3a2_all.deb"},
		{packages.Package{Name: "y", Version: "1", Arch: "amd64", File: "y_1_amd64.deb", Download: 5, Installed: -1}, "file:/r/y.deb"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(download{})); diff != "" {
		t.Error(diff)
	}
	if n := parseGrowth("x\nAfter this operation, 1,234 kB of additional disk space will be used.\n"); n != 1234000 {
		t.Errorf("%d", n)
	}
}

func FuzzParseURIs(f *testing.F) {
	f.Add("'http://h/x_1_all.deb' x_1_all.deb 123 SHA256:ab\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, d := range parseURIs(text) {
			if strings.Contains(d.File, "/") || d.File == "" {
				t.Errorf("%+v", d)
			}
		}
	})
}
