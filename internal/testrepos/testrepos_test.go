package testrepos

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

func TestRPMs(t *testing.T) {
	testenv.NeedPrograms(t, "rpm", "rpmkeys")
	dir := t.TempDir()
	key, other := NewKey(t, "one"), NewKey(t, "two")
	p := RPM{
		Name: "full", Epoch: "3", Version: "1.2", Release: "4", Requires: []string{"a >= 1", "b"}, Recommends: []string{"c"}, Provides: []string{"d = 5"},
		Files: []File{
			{Path: "/etc/full.conf", Content: "x=1\n", Attr: "%config(noreplace)"}, {Path: "/usr/share/doc/full", Content: "words\n", Attr: "%doc"}, {Path: "/usr/share/full/", Mode: 0o750},
			{Path: "/usr/share/full/link", Link: "file"}, {Path: "/usr/share/full/file", Content: "text", Mode: 0o600},
		},
		Post: "echo installed", Changelog: "* Mon Jan 01 2024 A Person <a@example.org> - 1.2-4\n- First.",
	}
	file := BuildRPM(t, dir, p)
	key.SignRPM(t, file)
	got := testenv.Run(t, "rpm", "--dbpath", filepath.Join(dir, "db"), "-qp", "--nosignature", "--qf", "%{EPOCH}:%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}\n[%{FILENAMES} %{FILEMODES:octal} %{FILEFLAGS:fflags}\n]%{POSTIN} %{POSTINPROG}\n", file)
	want := "3:full-1.2-4.noarch\n/etc/full.conf 100644 cn\n/usr/share/doc/full 100644 d\n/usr/share/full 40750 \n/usr/share/full/file 100600 \n/usr/share/full/link 120777 \necho installed /bin/sh\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	testenv.Run(t, "rpmkeys", "--dbpath", filepath.Join(dir, "db"), "--import", key.Public)
	if got := testenv.Run(t, "rpmkeys", "--dbpath", filepath.Join(dir, "db"), "-K", file); !strings.Contains(got, "digests signatures OK") {
		t.Error(got)
	}
	other.SignRPM(t, file)
	if got := testenv.Run(t, "sh", "-c", "rpmkeys --dbpath "+filepath.Join(dir, "db")+" -K "+file+" || true"); !strings.Contains(got, "SIGNATURES NOT OK") {
		t.Error(got)
	}
}

func TestRepositoryAndDistribution(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedPrograms(t, "rpm", "gpgv", "createrepo_c", "modifyrepo_c")
	dir := t.TempDir()
	key := NewKey(t, "one")
	MakeRPMRepo(t, dir, RPMRepo{
		Packages: append(Distribution(t, "test"), Pattern("basis", []string{"base"}, nil), Product("Thing", []string{"base"})), Key: &key, IndexKey: &key,
		Groups: Group("core", []string{"base"}, []string{"other"}), Modules: Module("thing", "1", "base", "base-0:1-1.noarch"),
	})
	testenv.Run(t, "sh", "-ec", "cd "+dir+"; gpg --homedir "+key.Home+" --batch --quiet --verify repodata/repomd.xml.asc repodata/repomd.xml; grep -q group repodata/repomd.xml; grep -q modules repodata/repomd.xml")
	root := t.TempDir()
	testenv.Run(t, "sh", "-ec", "rpm --root "+root+" --define '_dbpath /var/lib/rpm' --nosignature -i "+dir+"/filesystem*.rpm "+dir+"/busybox*.rpm "+dir+"/release*.rpm "+dir+"/base*.rpm")
	if _, err := os.Stat(filepath.Join(root, "usr/bin/busybox")); err != nil {
		t.Error(err)
	}
}

func TestServe(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a", "file"), "0123456789", 0o644)
	s := Serve(t, dir, "me", "secret")
	get := func(user string) (int, string, error) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/a/file", nil)
		must(t, err)
		request.SetBasicAuth(user, "secret")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0, "", err
		}
		defer response.Body.Close()
		data, err := io.ReadAll(response.Body)
		return response.StatusCode, string(data), err
	}
	if code, _, _ := get("you"); code != http.StatusUnauthorized {
		t.Errorf("code %d without the right name", code)
	}
	if _, text, err := get("me"); err != nil || text != "0123456789" {
		t.Errorf("%q, %v", text, err)
	}
	if !s.Fetched("/file") {
		t.Error("the request was not noted")
	}
	s.Cut(func(string) bool { return true })
	if _, text, err := get("me"); err == nil || text != "01234" {
		t.Errorf("cut: %q, %v", text, err)
	}
	s.Answer("/a/file", "another")
	if _, text, err := get("me"); err != nil || text != "another" {
		t.Errorf("%q, %v", text, err)
	}
	s.Close()
	if _, _, err := get("me"); err == nil {
		t.Error("it still answers")
	}
}
