package repositories

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/testrepos"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/rootfs/files"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	userns.MustEnter()
	os.Exit(m.Run())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, name, text string) string {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, []byte(text), 0o644))
	return name
}

// open opens repositories of a description in dir.
func open(t *testing.T, dir string, change func(*Options), repos ...description.Repository) (*Set, error) {
	t.Helper()
	for i := range repos {
		repos[i].Origin = description.Origin{Pos: description.Position{File: "config.xml", Line: i + 1, Column: 3}}
	}
	opts := Options{Image: &description.Image{Name: "test", Arch: "x86_64", Repositories: repos}, Files: files.Source{Dir: dir, FS: os.DirFS(dir)}, Workdir: t.TempDir()}
	if change != nil {
		change(&opts)
	}
	return Open(t.Context(), opts)
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "repo"), 0o755))
	set, err := open(t, dir, nil,
		description.Repository{Source: "https://user:p%40ss%2fword@host.example/x", Alias: "My repo.1"},
		description.Repository{Source: "this://repo", Alias: "My repo.1", ImageInclude: true},
		description.Repository{Source: "https://host.example/other", Username: "a", Password: "b c"},
		description.Repository{Source: "https://arm.example/", Architectures: []string{"aarch64"}},
		description.Repository{Source: "file:///media/cdrom", ImageOnly: true, Alias: ".hidden"},
		description.Repository{Source: "obs://Virtualization:Appliances/standard", Architectures: []string{"x86_64", "aarch64"}, Distribution: "x"},
	)
	must(t, err)
	want := []Repository{
		{Alias: "My_repo.1", URI: "https://host.example/x", User: "user", Password: "p@ss/word"},
		{Alias: "My_repo.1-2", URI: "file:///run/imgbuild/repositories/My_repo.1-2", Local: filepath.Join(dir, "repo")},
		{Alias: "repository-ff4f3d4bc8d2", URI: "https://host.example/other", User: "a", Password: "b c"},
		{Alias: "repository-c1d8a5d7f5c8", URI: PublicOpenBuildService + "/Virtualization:/Appliances/standard"},
	}
	ignore := cmpopts.IgnoreFields(Repository{}, "Description", "source")
	names := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Alias" }, cmp.Comparer(func(a, b string) bool {
		return a == b || strings.HasPrefix(a, "repository-") && strings.HasPrefix(b, "repository-")
	}))
	if diff := cmp.Diff(want, set.List, ignore, names); diff != "" {
		t.Error(diff)
	}
	if set.List[2].Alias == set.List[3].Alias {
		t.Errorf("two repositories are called %s", set.List[2].Alias)
	}
	if len(set.Image) != 2 || set.Image[0].Local == "" || set.Image[1].URI != "file:///media/cdrom" || set.Image[1].Local != "" || set.Image[1].Alias != "hidden" {
		t.Errorf("of the image: %+v", set.Image)
	}
	if diff := cmp.Diff([]sandbox.Bind{{Source: filepath.Join(dir, "repo"), Target: Dir + "/My_repo.1-2", ReadOnly: true}}, set.Binds); diff != "" {
		t.Error(diff)
	}
	for _, form := range []string{"p@ss/word", "p%40ss%2Fword", "b c", "b%20c", "b+c"} {
		if got := set.Hide("see " + form); got != "see ***" {
			t.Errorf("%q is shown as %q", form, got)
		}
	}
	if got := set.List[2].WithCredentials("https://host.example/other"); got != "https://a:b%20c@host.example/other" {
		t.Error(got)
	}
	for _, other := range []string{"https://other.example/x", "http://host.example/x", "https://host.example:444/x"} {
		if got := set.List[2].WithCredentials(other); got != other {
			t.Error(got)
		}
	}
	if got := set.List[3].WithCredentials(set.List[3].URI); got != set.List[3].URI {
		t.Error(got)
	}
	if got := strings.Join(set.Names(), " "); got != "https://host.example/x this://repo https://host.example/other obs://Virtualization:Appliances/standard x" {
		t.Error(got)
	}
	e := set.List[1].Errorf("do it", "no %s", set.List[1].URI+"/x")
	if e.Error() != "config.xml:2:3: no this://repo/x; do it" {
		t.Error(e)
	}
}

// TestAliases checks that an alias does not depend on a password.
func TestAliases(t *testing.T) {
	var aliases []string
	for _, source := range []string{"https://a:one@host.example/", "https://a:two@host.example/"} {
		set, err := open(t, "", nil, description.Repository{Source: source})
		must(t, err)
		aliases = append(aliases, set.List[0].Alias)
	}
	if aliases[0] != aliases[1] {
		t.Errorf("%q", aliases)
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "file"), "no key")
	_, err := open(t, dir, nil,
		description.Repository{Source: "nowhere"},
		description.Repository{Source: "dir:///nowhere"},
		description.Repository{Source: file},
		description.Repository{Source: "this://absent"},
		description.Repository{Source: "iso:///nowhere.iso"},
		description.Repository{Source: "iso:" + file},
		description.Repository{Source: "https://host/?credentials=absent"},
		description.Repository{Source: "https://host/?credentials=../absent"},
		description.Repository{Source: "https://host/", Username: "a\nb"},
		description.Repository{Source: "this://.", SourceType: "mirrorlist"},
		description.Repository{Source: "https://host/", SigningKeys: []description.SigningKey{{URI: file}, {URI: "absent"}, {URI: "ssh://x"}}},
	)
	var errs description.Errors
	if !errors.As(err, &errs) {
		t.Fatalf("error %v", err)
	}
	for i, want := range []string{
		"has no scheme", "can't be read", "is no directory", "can't be read", "ISO image", "no ISO 9660 file system", "credentials file absent", "leads out", "control character", "no address in the network",
		"it holds no OpenPGP public key", "absent: no such file", "can't be fetched by ssh",
	} {
		if i >= len(errs) || !strings.Contains(errs[i].Text, want) {
			t.Errorf("error %d is not %q: %v", i, want, errs[min(i, len(errs)-1)])
		}
	}
	for i, e := range errs[:10] {
		if e.Pos.Line != i+1 {
			t.Errorf("error %d is at %s", i, e.Pos)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, Options{Image: &description.Image{Repositories: []description.Repository{{Source: "/"}}}}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "mine"), "# a comment\nusername = joe\npassword=x = y\n")
	write(t, filepath.Join(dir, "half"), "password=x\n")
	set, err := open(t, dir, nil,
		description.Repository{Source: "https://host/?credentials=mine"},
		description.Repository{Source: "https://host/?credentials=" + filepath.Join(dir, "mine")},
		description.Repository{Source: "https://host/?credentials=absent", Username: "jim", Password: "z"}, // a name for KIWI's own file
		description.Repository{Source: "https://in:address@host/", Username: "jim", Password: "z"},
	)
	must(t, err)
	for i, want := range []string{"joe x = y", "joe x = y", "jim z", "jim z"} {
		if r := set.List[i]; r.User+" "+r.Password != want || r.URI != "https://host/" {
			t.Errorf("%d: %s %s %s", i, r.User, r.Password, r.URI)
		}
	}
	if _, err := open(t, dir, nil, description.Repository{Source: "https://host/?credentials=half"}); err == nil || !strings.Contains(err.Error(), "no line username") {
		t.Errorf("error %v", err)
	}
}

// gpg shows the keys that gpg reads in a file.
func gpg(t *testing.T, data []byte) string {
	t.Helper()
	return testenv.Run(t, "gpg", "--homedir", t.TempDir(), "--no-autostart", "--show-keys", "--with-colons", write(t, filepath.Join(t.TempDir(), "keys"), string(data)))
}

func TestKeys(t *testing.T) {
	one, two := testrepos.NewKey(t, "one"), testrepos.NewKey(t, "two")
	dir := t.TempDir()
	armored, err := os.ReadFile(one.Public)
	must(t, err)
	other, err := os.ReadFile(two.Public)
	must(t, err)
	binary, err := publicKeys(other)
	must(t, err)
	write(t, filepath.Join(dir, "both.asc"), string(armored)+"text between\n"+strings.ReplaceAll(string(other), "\n", "\r\n"))
	write(t, filepath.Join(dir, "two.gpg"), string(binary))
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if user, password, _ := r.BasicAuth(); r.URL.Path == "/secret" && (user != "u" || password != "p") {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write(armored)
	}))
	cache := t.TempDir()
	key := func(uris ...string) (keys []description.SigningKey) {
		for _, uri := range uris {
			keys = append(keys, description.SigningKey{URI: uri})
		}
		return keys
	}
	repos := []description.Repository{
		{Source: "https://host/1", SigningKeys: key("both.asc")},
		{Source: "https://host/2", SigningKeys: key("file://"+one.Public, "file:two.gpg")},
		{Source: server.URL + "/repo", Username: "u", Password: "p", SigningKeys: key(server.URL+"/open", server.URL+"/secret")},
		{Source: "https://host/4", SigningKeys: key(server.URL+"/open", "this://two.gpg")},
		{Source: "https://host/5"},
	}
	set, err := open(t, dir, func(o *Options) { o.Cache = cache }, repos...)
	must(t, err)
	for i, want := range []string{"one two", "one two", "one one", "one two", ""} {
		var data []byte
		for _, f := range set.Files {
			if f.Path == set.List[i].KeyFile {
				data = f.Data
			}
		}
		if want == "" {
			if data != nil || set.List[i].Keys != nil || set.List[i].KeyFile != "" {
				t.Errorf("%d has a key", i)
			}
			continue
		}
		for what, data := range map[string][]byte{"armored": data, "binary": set.List[i].Keys} {
			shown := gpg(t, data)
			for name := range strings.FieldsSeq(want) {
				if !strings.Contains(shown, name+" <"+name+"@example.org>") {
					t.Errorf("%d, %s: no key %s in %s", i, what, name, shown)
				}
			}
			fingerprints, err := Fingerprints(set.List[i].Keys)
			must(t, err)
			for _, f := range fingerprints {
				if len(f) != 40 || !strings.Contains(shown, ":"+f+":") {
					t.Errorf("%d: fingerprint %s is not in %s", i, f, shown)
				}
			}
		}
	}
	if asked != 2 {
		t.Errorf("the server was asked %d times", asked)
	}
	server.Close()
	offline := func(o *Options) { o.Cache, o.Offline = cache, true }
	if _, err := open(t, dir, offline, repos...); err != nil {
		t.Errorf("without the network: %v", err)
	}
	for _, change := range []func(*Options){func(o *Options) { o.Offline = true }, func(o *Options) { o.Offline, o.Cache = true, t.TempDir() }} {
		if _, err := open(t, dir, change, repos...); err == nil || !strings.Contains(err.Error(), "--offline") {
			t.Errorf("without the network and a cache: %v", err)
		}
	}
	secret := testenv.Run(t, "gpg", "--homedir", one.Home, "--batch", "--pinentry-mode", "loopback", "--passphrase", "", "--export-secret-keys")
	if _, err := publicKeys([]byte(secret)); err == nil || !strings.Contains(err.Error(), "secret key") {
		t.Errorf("a secret key: %v", err)
	}
	if _, err := publicKeys(binary[:len(binary)-3]); err == nil || !strings.Contains(err.Error(), "not complete") {
		t.Errorf("half a key: %v", err)
	}
}

// FuzzPublicKeys checks that what is taken can be taken apart and put together.
func FuzzPublicKeys(f *testing.F) {
	f.Add([]byte("\x98\x03\x04ab\xb4\x01x"))
	f.Add([]byte("\xc6\xc0\x01" + strings.Repeat("\x04", 200)))
	f.Add([]byte(armorBegin + "\nVersion: 1\n\nmAMEYWI=\n=abcd\n" + armorEnd))
	f.Fuzz(func(t *testing.T, data []byte) {
		ring, err := publicKeys(data)
		if err != nil {
			return
		}
		if _, err := Fingerprints(ring); err != nil {
			t.Errorf("%x: %v", ring, err)
		}
		again, err := publicKeys(armor(ring))
		if err != nil || !bytes.Equal(again, ring) {
			t.Errorf("%x became %x, %v", ring, again, err)
		}
	})
}

// ftpServer serves one file by FTP, a few commands of it.
func ftpServer(t *testing.T, content string) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serveFTP(conn, content)
		}
	}()
	return listener.Addr().String()
}

func serveFTP(conn net.Conn, content string) {
	control := textproto.NewConn(conn)
	defer control.Close()
	say := func(format string, args ...any) { _ = control.PrintfLine(format, args...) } // the client may be gone
	say("220-hello\r\n220 there")
	data, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return
	}
	defer data.Close()
	_, port, _ := net.SplitHostPort(data.Addr().String())
	for {
		line, err := control.ReadLine()
		if err != nil {
			return
		}
		switch command, argument, _ := strings.Cut(line, " "); {
		case command == "USER":
			say("331 password, please")
		case command == "PASS" && argument == "wrong":
			say("530 no")
		case command == "PASS":
			say("230 fine")
		case command == "TYPE":
			say("200 fine")
		case command == "EPSV":
			say("229 here (|||%s|)", port)
		case command == "RETR" && argument == "pub/key.asc":
			say("150 it comes")
			if to, err := data.Accept(); err == nil {
				_, _ = io.WriteString(to, content)
				_ = to.Close()
			}
			say("226 done")
		default:
			say("no such thing")
		}
	}
}

func TestFTP(t *testing.T) {
	server := ftpServer(t, "content")
	for path, want := range map[string]string{"/pub/key.asc": "content", "/absent": "no such thing"} {
		got, err := fetch(t.Context(), address{uri: "ftp://" + server + path}, 100)
		if text := string(got) + fmt.Sprint(err); !strings.Contains(text, want) {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	if _, err := fetch(t.Context(), address{uri: "ftp://" + server + "/pub/key.asc", user: "u", password: "wrong"}, 100); err == nil || !strings.Contains(err.Error(), "530") {
		t.Errorf("error %v", err)
	}
	if _, err := fetch(t.Context(), address{uri: "ftp://" + server + "/pub/key.asc"}, 3); err == nil || !strings.Contains(err.Error(), "more than 3 bytes") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := fetch(ctx, address{uri: "ftp://" + server + "/pub/key.asc"}, 100); err == nil {
		t.Error("it was fetched")
	}
}

// TestISO reads a repository in an ISO image, with long names.
func TestISO(t *testing.T) {
	testenv.NeedPrograms(t, "xorriso")
	dir := t.TempDir()
	write(t, filepath.Join(dir, "content/Long Name.d/repodata/repomd.xml"), "<x/>")
	testenv.Run(t, "xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", "stdio:"+filepath.Join(dir, "media.iso"), filepath.Join(dir, "content"))
	for _, source := range []string{"iso://" + dir + "/media.iso", "iso:media.iso", "iso:/?iso=media.iso&url=dir:" + dir} {
		set, err := open(t, dir, nil, description.Repository{Source: source, Alias: "media"})
		must(t, err)
		r := set.List[0]
		if data, err := os.ReadFile(filepath.Join(r.Local, "Long Name.d/repodata/repomd.xml")); string(data) != "<x/>" || r.URI != "file://"+Dir+"/media" {
			t.Errorf("%s: %q, %v, %s", source, data, err, r.URI)
		}
		must(t, os.RemoveAll(r.Local))
	}
}

// TestContainerDescription takes a repository and a key from a description that is no directory of this machine.
func TestContainerDescription(t *testing.T) {
	key := testrepos.NewKey(t, "one")
	data, err := os.ReadFile(key.Public)
	must(t, err)
	fsys := fstest.MapFS{"repo/x/file": {Data: []byte("content"), Mode: 0o644}, "key.asc": {Data: data, Mode: 0o644}}
	set, err := open(t, "", func(o *Options) { o.Files = files.Source{FS: fsys} }, description.Repository{Source: "this://repo", SigningKeys: []description.SigningKey{{URI: "key.asc"}}})
	must(t, err)
	if data, err := os.ReadFile(filepath.Join(set.List[0].Local, "x/file")); string(data) != "content" || set.List[0].Keys == nil {
		t.Errorf("%q, %v", data, err)
	}
}

func TestConcerned(t *testing.T) {
	set := &Set{List: []Repository{
		{Alias: "one", URI: "https://host.example/one/"}, {Alias: "two", URI: "https://host.example/two"}, {Alias: "three", URI: "file://" + Dir + "/three", Local: "/srv/three"},
		{Alias: "four", URI: "https://four.example/"},
	}}
	for text, want := range map[string]string{
		"can't read https://host.example/two/x": "two", "repo 'one' is broken": "one", "twotone": "", "/srv/three/x": "three", "no host four.example": "four", Dir + "/three": "three", "": "",
	} {
		if r, ok := set.Concerned("nothing here", text); r.Alias != want || ok != (want != "") {
			t.Errorf("%q is about %q", text, r.Alias)
		}
	}
	set.List = set.List[:1]
	if r, ok := set.Concerned("whatever"); !ok || r.Alias != "one" {
		t.Errorf("the only one: %v", r)
	}
}
