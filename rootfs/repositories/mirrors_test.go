package repositories

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/rootfs/files"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

const metalink3 = `<?xml version="1.0" encoding="utf-8"?>
<metalink version="3.0" xmlns="http://www.metalinker.org/" xmlns:mm0="http://fedorahosted.org/mirrormanager">
 <files>
  <file name="repomd.xml">
   <size>4000</size>
   <resources maxconnections="1">
    <url protocol="https" type="https" location="DE" preference="90">https://second.example/linux/os/repodata/repomd.xml</url>
    <url protocol="rsync" type="rsync" location="DE" preference="100">rsync://rsync.example/linux/os/repodata/repomd.xml</url>
    <url protocol="http" type="http" location="DE" preference="100">http://plain.example/linux/os/repodata/repomd.xml</url>
    <url protocol="https" type="https" location="DE" preference="100">https://first.example/linux/os/repodata/repomd.xml</url>
   </resources>
  </file>
  <file name="other.xml"><resources><url preference="100">https://other.example/repodata/repomd.xml</url></resources></file>
 </files>
</metalink>`

const metalink4 = `<?xml version="1.0"?><metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="repodata/repomd.xml">
<url priority="2">https://b.example/x/repodata/repomd.xml</url><url priority="1">https://a.example/x/repodata/repomd.xml</url></file></metalink>`

func TestParseMirrors(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"metalink 3": {metalink3, []string{"https://first.example/linux/os/", "http://plain.example/linux/os/", "https://second.example/linux/os/"}},
		"metalink 4": {metalink4, []string{"https://a.example/x/", "https://b.example/x/"}},
		"list":       {"# comment\nhttps://a.example/$basearch/\n\n  ftp://b.example/x\tpriority:1\nhttps://a.example/$basearch/\nhttps://u:p@c.example/\nfile:///etc\n", []string{"https://a.example/$basearch/", "ftp://b.example/x"}},
		"pacman":     {"## Germany\nServer = https://a.example/$repo/os/$arch\n#Server = https://b.example/\nServer=http://c.example/\n", []string{"https://a.example/$repo/os/$arch", "http://c.example/"}},
	} {
		got, err := parseMirrors([]byte(test.text))
		if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
	for _, bad := range []string{"", "<html><body>hello</body>", "<metalink><url>", "no address", "# https://a.example/"} {
		if got, err := parseMirrors([]byte(bad)); err == nil {
			t.Errorf("%q has %q", bad, got)
		}
	}
}

func FuzzParseMirrors(f *testing.F) {
	f.Add([]byte(metalink3))
	f.Add([]byte(metalink4))
	f.Add([]byte("Server = https://a.example/\nhttps://b.example/ x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseMirrors(data)
		if err == nil && len(list) == 0 {
			t.Error("no address and no error")
		}
		for _, mirror := range list {
			if u, err := url.Parse(mirror); err != nil || u.User != nil || strings.ContainsAny(mirror, " \t\r\n\"'") {
				t.Errorf("mirror %q", mirror)
			}
		}
	})
}

func TestMirrors(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "u" || password != "p" || r.URL.Path != "/x86_64/15" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte("https://mirror.example/${releasever}/$basearch/\n"))
	}))
	defer server.Close()
	variables := map[string]string{"basearch": "x86_64", "releasever": "15", "base": "wrong"}
	repo := description.Repository{Source: server.URL + "/$basearch/${releasever}", SourceType: "mirrorlist", Username: "u", Password: "p"}
	cache := t.TempDir()
	set, err := open(t, "", func(o *Options) { o.Cache = cache }, repo)
	must(t, err)
	got, err := set.List[0].Mirrors(t.Context(), variables)
	if diff := cmp.Diff([]string{"https://mirror.example/15/x86_64/"}, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	if _, err := set.List[0].Mirrors(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "config.xml:1:3: the list of mirrors") || !strings.Contains(err.Error(), "404") {
		t.Errorf("error %v", err)
	}
	set, err = open(t, "", func(o *Options) { o.Offline = true }, repo, description.Repository{Source: "https://host/$basearch"})
	must(t, err)
	if _, err := set.List[0].Mirrors(t.Context(), variables); err == nil || !strings.Contains(err.Error(), "--offline") {
		t.Errorf("error %v", err)
	}
	kept, err := open(t, "", func(o *Options) { o.Offline, o.Cache = true, cache }, repo)
	must(t, err)
	if again, err := kept.List[0].Mirrors(t.Context(), variables); err != nil || !slices.Equal(again, got) {
		t.Errorf("from the cache: %q, %v", again, err)
	}
	if got, err := set.List[1].Mirrors(t.Context(), variables); err != nil || strings.Join(got, " ") != "https://host/x86_64" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestCustomize(t *testing.T) {
	testenv.NeedRoot(t)
	dir, work := t.TempDir(), t.TempDir()
	write(t, filepath.Join(dir, "custom.sh"), "case $1 in */my.repo) ;; *) exit 9 ;; esac\necho more >> \"$1\"; ls "+dir+" && exit 8; exit 0\n")
	write(t, filepath.Join(dir, "link.sh"), "ln -sf /etc/hostname \"$1\"\n")
	write(t, filepath.Join(dir, "pipe.sh"), "rm \"$1\"; mkfifo \"$1\"\n")
	write(t, filepath.Join(dir, "fails.sh"), "echo no >&2; exit 4\n")
	customize := func(ctx context.Context, script string) (string, error) {
		r := Repository{Description: description.Repository{Source: "https://host/", Customize: script}}
		data, err := r.Customize(ctx, CustomizeOptions{
			Files: files.Source{Dir: dir, FS: os.DirFS(dir)}, Workdir: work, Name: "my.repo", Data: []byte("[my]\n"),
			Run: func(ctx context.Context, spec sandbox.Spec) error {
				spec.Root, spec.ReadOnlyRoot = "/", true
				return sandbox.Run(ctx, spec)
			},
		})
		return string(data), err
	}
	for script, want := range map[string]string{"": "[my]\n", "custom.sh": "[my]\nmore\n"} {
		if got, err := customize(t.Context(), script); got != want || err != nil {
			t.Errorf("%s: %q, %v", script, got, err)
		}
	}
	for script, want := range map[string]string{"link.sh": "link.sh", "pipe.sh": "something else than a file", "fails.sh": "exit code 4; it said: no", "absent.sh": "no such file"} {
		if got, err := customize(t.Context(), script); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v", script, got, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := customize(ctx, "custom.sh"); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if left, err := os.ReadDir(work); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestListsThatAreRefused has lists of mirrors of which a package manager or an image can't make use. Nothing is asked of the network.
func TestListsThatAreRefused(t *testing.T) {
	const list = "http://127.0.0.1:9/list"
	for _, test := range []struct {
		manager, kind    string
		include, only    bool
		want, wantRemedy string
	}{
		{"apt", "metalink", false, false, "apt has repositories that no metalink can name", "mirrorlist"},
		{"apt", "metalink", true, false, "apt has repositories that no metalink can name", "mirrorlist"},
		{"pacman", "metalink", false, true, "no metalink can name", "give the address of a mirror"},
		{"apk", "metalink", false, false, "no metalink can name", "give the address of a mirror"},
		{"pacman", "mirrorlist", true, false, "pacman can't fetch lists of mirrors by itself", "give the address of a mirror"},
		{"apk", "mirrorlist", false, true, "apk can't fetch lists of mirrors by itself", "imageonly"},
		{"apt", "mirrorlist", true, false, "", ""},
		{"dnf4", "metalink", true, false, "", ""},
		{"zypper", "metalink", false, true, "", ""},
		{"pacman", "mirrorlist", false, false, "", ""},
	} {
		origin := description.Origin{Pos: description.Position{File: "config.xml", Line: 7, Column: 3}}
		image := &description.Image{PackageManager: test.manager, Repositories: []description.Repository{
			{Origin: origin, Source: list, SourceType: test.kind, ImageInclude: test.include, ImageOnly: test.only},
		}}
		_, err := Open(t.Context(), Options{Image: image, Workdir: t.TempDir()})
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%+v: %v", test, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.wantRemedy) || !strings.Contains(err.Error(), "config.xml:7:3")):
			t.Errorf("%+v: %v", test, err)
		}
	}
}
