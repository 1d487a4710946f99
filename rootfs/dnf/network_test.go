package dnf

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/testrepos"
	"github.com/imgbuild/imgbuild/rootfs/packages"
)

// at is a repository at an address.
func at(address string) description.Repository {
	return description.Repository{Origin: origin(7), Source: address}
}

func TestSignatures(t *testing.T) {
	needs(t)
	testenv.NeedPrograms(t, "gpg", "rpmsign")
	one, two := testrepos.NewKey(t, "one"), testrepos.NewKey(t, "two")
	signed := newWorld(t, testrepos.RPMRepo{Packages: few()[1:3], Key: &one, IndexKey: &one})
	unsigned := fewWorld(t)
	with := func(w *world, packages, index description.Tristate, key ...testrepos.Key) description.Repository {
		r := at("dir://" + w.repo)
		r.PackageGPGCheck, r.RepoGPGCheck = packages, index
		for _, k := range key {
			r.SigningKeys = append(r.SigningKeys, description.SigningKey{URI: "file://" + k.Public})
		}
		return r
	}
	must(t, newWorldLike(t, signed).bootstrap(t, set("extra"), with(signed, description.True, description.True, one)))
	must(t, newWorldLike(t, signed).bootstrap(t, set("extra"), with(signed, description.True, description.True, two, one)))
	for _, test := range []struct {
		about string
		w     *world
		repo  description.Repository
		check bool // rpm-check-signatures
		want  []string
	}{
		{"another key", signed, with(signed, description.True, description.Unset, two), false, []string{"config.xml:7:5", "the signature of a package can't be verified", "package_gpgcheck"}},
		{"no key", signed, with(signed, description.True, description.Unset), false, []string{"config.xml:7:5", "the signature of a package can't be verified"}},
		{"not signed", unsigned, with(unsigned, description.True, description.Unset, one), false, []string{"config.xml:7:5", "the signature of a package can't be verified", "is not signed"}},
		{"all are checked", unsigned, with(unsigned, description.Unset, description.Unset, one), true, []string{"the signature of a package can't be verified", "is not signed"}},
		{"another key for the index", signed, with(signed, description.Unset, description.True, two), false, []string{"config.xml:7:5", "its signature can't be verified", "repository_gpgcheck"}},
		{"the index is not signed", unsigned, with(unsigned, description.Unset, description.True, one), false, []string{"config.xml:7:5", "its signature can't be verified", "repomd.xml.asc"}},
	} {
		w := newWorldLike(t, test.w)
		w.image.RPM.CheckSignatures = test.check
		err := w.bootstrap(t, set("extra"), test.repo)
		t.Logf("%s: %v", test.about, err)
		wantError(t, err, test.want...)
		if len(w.left(t, "var", "etc/dnf")) > 0 {
			t.Errorf("%s: something was installed: %q", test.about, w.left(t))
		}
	}
	w := newWorldLike(t, unsigned)
	w.image.RPM.CheckSignatures = true
	must(t, w.bootstrap(t, set("extra"), with(unsigned, description.False, description.Unset)))
}

func TestCredentials(t *testing.T) { asBoth(t, testCredentials) }

func testCredentials(t *testing.T) {
	const password = "s3cret $p%ss:w/rd"
	w := fewWorld(t)
	server := testrepos.Serve(t, w.repo, "ann", password)
	repo := at(server.URL)
	repo.Username, repo.Password = "ann", password
	s, err := w.open(t, repo)
	must(t, err)
	must(t, s.Bootstrap(t.Context(), set("extra")))
	for _, dir := range []string{w.work, w.root} {
		must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			if strings.Contains(string(data), "s3cret") {
				t.Errorf("%s has the password", path)
			}
			return err
		}))
	}
	must(t, s.Close())
	w.wantInstalled(t, "extra-3")
	if all := w.log.String() + strings.Join(w.commands, "\n"); strings.Contains(all, "s3cret") {
		t.Errorf("the password is in the log or in a command line: %s", all)
	}
	// In the address too.
	u, err := url.Parse(server.URL)
	must(t, err)
	u.User = url.UserPassword("ann", password)
	must(t, newWorldLike(t, w).bootstrap(t, set("extra"), at(u.String())))
	repo.Password = "wr0ng"
	err = newWorldLike(t, w).bootstrap(t, set("extra"), repo)
	wantError(t, err, "config.xml:7:5", "refuses access", "401")
	if strings.Contains(err.Error(), "wr0ng") {
		t.Error(err)
	}
	repo.Password = "blank "
	wantError(t, newWorldLike(t, w).bootstrap(t, set("extra"), repo), "blanks at its ends")
}

func TestUnreachable(t *testing.T) {
	needs(t)
	w := fewWorld(t)
	server := testrepos.Serve(t, w.repo, "", "")
	wantError(t, newWorldLike(t, w).bootstrap(t, set("extra"), at(server.URL+"/nowhere")), "config.xml:7:5", "can't be read", "404", "check its address")
	server.Cut(func(path string) bool { return strings.HasSuffix(path, ".rpm") })
	cut := newWorldLike(t, w)
	err := cut.bootstrap(t, set("extra"), at(server.URL))
	wantError(t, err, "config.xml:7:5", "can't be read", "extra-3-1.noarch")
	if left := cut.left(t, "var", "etc/dnf"); len(left) > 0 {
		t.Errorf("something was installed: %q", left)
	}
	server.Close()
	// The address is not the first one.
	other := at("dir://" + w.repo)
	err = newWorldLike(t, w).bootstrap(t, set("extra"), other, description.Repository{Origin: origin(8), Source: server.URL})
	wantError(t, err, "config.xml:8:5", "can't be read", server.URL)
	wantError(t, newWorldLike(t, w).bootstrap(t, set("extra"), description.Repository{Origin: origin(9), Source: "dir://" + w.repo, Type: "apt-deb"}), "config.xml:9:5", "apt-deb", "rpm-md")
}

func TestMirrors(t *testing.T) {
	needs(t)
	w := fewWorld(t)
	server := testrepos.Serve(t, w.repo, "", "")
	server.Answer("/mirrors", "http://127.0.0.1:9/gone/\n"+server.URL+"/\n")
	repomd, err := os.ReadFile(filepath.Join(w.repo, "repodata/repomd.xml"))
	must(t, err)
	sum, err := packages.Sum(filepath.Join(w.repo, "repodata/repomd.xml"))
	must(t, err)
	server.Answer("/metalink", `<?xml version="1.0" encoding="utf-8"?>
<metalink version="3.0" xmlns="http://www.metalinker.org/" xmlns:mm0="http://fedorahosted.org/mirrormanager">
 <files><file name="repomd.xml"><mm0:timestamp>1</mm0:timestamp><size>`+strconv.Itoa(len(repomd))+`</size>
  <verification><hash type="sha256">`+strings.TrimPrefix(sum, "sha256:")+`</hash></verification>
  <resources maxconnections="1"><url protocol="http" type="http" location="DE" preference="100">`+server.URL+`/repodata/repomd.xml</url></resources>
 </file></files>
</metalink>
`)
	for _, kind := range []string{"mirrorlist", "metalink"} {
		repo := at(server.URL + "/" + map[string]string{"mirrorlist": "mirrors", "metalink": "metalink"}[kind])
		repo.SourceType = kind
		other := newWorldLike(t, w)
		must(t, other.bootstrap(t, set("extra"), repo))
		other.wantInstalled(t, "extra-3")
	}
	server.Answer("/mirrors", "<html>no list</html>")
	repo := at(server.URL + "/mirrors")
	repo.SourceType = "mirrorlist"
	wantError(t, newWorldLike(t, w).bootstrap(t, set("extra"), repo), "config.xml:7:5", "can't be read")
}

func TestCache(t *testing.T) { asBoth(t, testCache) }

func testCache(t *testing.T) {
	w := fewWorld(t)
	w.cache = t.TempDir()
	server := testrepos.Serve(t, w.repo, "", "")
	must(t, w.bootstrap(t, set("extra"), at(server.URL)))
	server.Requests()
	again := newWorldLike(t, w)
	must(t, again.bootstrap(t, set("extra"), at(server.URL)))
	if got := server.Requests(); len(got) != 1 || got[0] != "/repodata/repomd.xml" {
		t.Errorf("with a cache it fetched %q", got)
	}
	var damaged string
	must(t, eachPackage(w.cache, func(name string) { damaged = name }))
	must(t, os.Chmod(damaged, 0o644))
	data, err := os.ReadFile(damaged)
	must(t, err)
	data[len(data)-1] ^= 1
	must(t, os.Remove(damaged))
	must(t, os.WriteFile(damaged, data, 0o644))
	third := newWorldLike(t, w)
	must(t, third.bootstrap(t, set("extra"), at(server.URL)))
	third.wantInstalled(t, "extra-3")
	if !server.Fetched("extra-3-1.noarch.rpm") {
		t.Error("a damaged package was not fetched anew")
	}
	server.Close()
	off := newWorldLike(t, w)
	off.offline = true
	must(t, off.bootstrap(t, set("extra"), at(server.URL)))
	off.wantInstalled(t, "extra-3")
	wantError(t, off.bootstrap(t, set("hello"), at(server.URL)), "the package cache lacks greeting-1:2.0-1.noarch, hello-1.0-1.noarch", "--offline")
	off.cache = t.TempDir()
	wantError(t, off.bootstrap(t, set("hello"), at(server.URL)), "config.xml:7:5", "not in the package cache", "--offline")
	// A directory of this machine needs no cache.
	must(t, off.bootstrap(t, set("hello")))
}

func TestLockAndUpdate(t *testing.T) {
	needs(t)
	old := []testrepos.RPM{{Name: "tool", Version: "1", Requires: []string{"library"}}, {Name: "library", Version: "1", Epoch: "1"}}
	w := newWorld(t, testrepos.RPMRepo{Packages: old})
	s, err := w.open(t)
	must(t, err)
	must(t, s.Bootstrap(t.Context(), set("tool")))
	locked := s.Installed()
	must(t, s.Close())
	testrepos.MakeRPMRepo(t, w.repo, testrepos.RPMRepo{Packages: []testrepos.RPM{{Name: "tool", Version: "2", Requires: []string{"library"}}, {Name: "library", Version: "2", Epoch: "1"}, {Name: "other"}}})
	obeying := newWorldLike(t, w)
	obeying.locked = locked
	s, err = obeying.open(t)
	must(t, err)
	must(t, s.Bootstrap(t.Context(), set("tool")))
	if diff := cmp.Diff(locked, s.Installed()); diff != "" {
		t.Error(diff)
	}
	wantError(t, s.Install(t.Context(), set("other")), "lacks the package other", "--locked")
	must(t, s.Close())
	obeying.wantInstalled(t, "library-1:1", "tool-1")

	s, err = w.open(t)
	must(t, err)
	must(t, s.Update(t.Context()))
	must(t, s.Update(t.Context()))
	if got := s.Installed(); len(got) != 2 || got[0].String() != "library-1:2-1.noarch" {
		t.Errorf("updated %+v", got)
	}
	must(t, s.Close())
	w.wantInstalled(t, "library-1:2", "tool-2")

	// The same version with another content.
	must(t, os.Remove(filepath.Join(w.repo, "library-1-1.noarch.rpm")))
	testrepos.MakeRPMRepo(t, w.repo, testrepos.RPMRepo{Packages: []testrepos.RPM{{Name: "library", Version: "1", Epoch: "1", Provides: []string{"more"}}}})
	changed := newWorldLike(t, w)
	changed.locked = locked
	wantError(t, changed.bootstrap(t, set("tool")), "package library-1:1-1.noarch has the checksum", "--locked")
	must(t, os.Remove(filepath.Join(w.repo, "tool-1-1.noarch.rpm")))
	testrepos.IndexRPM(t, w.repo, testrepos.RPMRepo{})
	wantError(t, changed.bootstrap(t, set("tool")), "lacks the package tool", "--locked")
}

func TestPlainDirectory(t *testing.T) {
	needs(t)
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	for _, p := range few()[:3] {
		testrepos.BuildRPM(t, filepath.Join(dir, "some", p.Name), p)
	}
	w := emptyWorld(t, dir)
	repo := at("dir://" + dir)
	repo.Type = "rpm-dir"
	s, err := w.open(t, repo)
	must(t, err)
	must(t, s.Bootstrap(t.Context(), set("hello")))
	if got := s.Installed(); len(got) != 2 || !strings.HasPrefix(got[0].Checksum, "sha256:") {
		t.Errorf("%+v", got)
	}
	must(t, s.Close())
	w.wantInstalled(t, "greeting-1:2.0", "hello-1.0")
	w.nothingLeft(t)
	repo = at("http://127.0.0.1:9/x")
	repo.Type = "rpm-dir"
	wantError(t, newWorldLike(t, w).bootstrap(t, set("hello"), repo), "config.xml:7:5", "has no index", "rpm-md")
}
