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
	"github.com/imgbuild/imgbuild/rootfs/packages/managertest"
)

// at is a repository at an address.
func at(address string) description.Repository {
	return description.Repository{Origin: managertest.Origin(7), Source: address}
}

func TestSignatures(t *testing.T) { each(t, bench.testSignatures) }

func (b bench) testSignatures(t *testing.T) {
	testenv.NeedPrograms(t, "gpg", "rpmsign")
	one, two := testrepos.NewKey(t, "one"), testrepos.NewKey(t, "two")
	signed := b.newWorld(t, testrepos.RPMRepo{Packages: few()[1:3], Key: &one, IndexKey: &one})
	unsigned := b.fewWorld(t)
	with := func(w world, packages, index description.Tristate, key ...testrepos.Key) description.Repository {
		r := at("dir://" + w.Repo)
		r.PackageGPGCheck, r.RepoGPGCheck = packages, index
		for _, k := range key {
			r.SigningKeys = append(r.SigningKeys, description.SigningKey{URI: "file://" + k.Public})
		}
		return r
	}
	managertest.Must(t, newWorldLike(t, signed).Bootstrap(t, managertest.Set("extra"), with(signed, description.True, description.True, one)))
	managertest.Must(t, newWorldLike(t, signed).Bootstrap(t, managertest.Set("extra"), with(signed, description.True, description.True, two, one)))
	for _, test := range []struct {
		about string
		w     world
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
		w.Image.RPM.CheckSignatures = test.check
		err := w.Bootstrap(t, managertest.Set("extra"), test.repo)
		t.Logf("%s: %v", test.about, err)
		managertest.WantError(t, err, test.want...)
		if len(w.Left(t, "var", "etc/dnf")) > 0 {
			t.Errorf("%s: something was installed: %q", test.about, w.Left(t))
		}
	}
	w := newWorldLike(t, unsigned)
	w.Image.RPM.CheckSignatures = true
	managertest.Must(t, w.Bootstrap(t, managertest.Set("extra"), with(unsigned, description.False, description.Unset)))
}

func TestCredentials(t *testing.T) { asBoth(t, bench.testCredentials) }

func (b bench) testCredentials(t *testing.T) {
	const password = "s3cret $p%ss:w/rd"
	w := b.fewWorld(t)
	server := testrepos.Serve(t, w.Repo, "ann", password)
	repo := at(server.URL)
	repo.Username, repo.Password = "ann", password
	s, err := w.Open(t, repo)
	managertest.Must(t, err)
	managertest.Must(t, s.Bootstrap(t.Context(), managertest.Set("extra")))
	for _, dir := range []string{w.Work, w.Root} {
		managertest.Must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
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
	managertest.Must(t, s.Close())
	w.wantInstalled(t, "extra-3")
	if all := w.Log.String() + strings.Join(w.Commands, "\n"); strings.Contains(all, "s3cret") {
		t.Errorf("the password is in the log or in a command line: %s", all)
	}
	// In the address too.
	u, err := url.Parse(server.URL)
	managertest.Must(t, err)
	u.User = url.UserPassword("ann", password)
	managertest.Must(t, newWorldLike(t, w).Bootstrap(t, managertest.Set("extra"), at(u.String())))
	repo.Password = "wr0ng"
	err = newWorldLike(t, w).Bootstrap(t, managertest.Set("extra"), repo)
	managertest.WantError(t, err, "config.xml:7:5", "refuses access", "401")
	if strings.Contains(err.Error(), "wr0ng") {
		t.Error(err)
	}
	repo.Password = "blank "
	managertest.WantError(t, newWorldLike(t, w).Bootstrap(t, managertest.Set("extra"), repo), "blanks at its ends")
}

func TestUnreachable(t *testing.T) { each(t, bench.testUnreachable) }

func (b bench) testUnreachable(t *testing.T) {
	w := b.fewWorld(t)
	server := testrepos.Serve(t, w.Repo, "", "")
	managertest.WantError(t, newWorldLike(t, w).Bootstrap(t, managertest.Set("extra"), at(server.URL+"/nowhere")), "config.xml:7:5", "can't be read", "404", "check its address")
	server.Cut(func(path string) bool { return strings.HasSuffix(path, ".rpm") })
	cut := newWorldLike(t, w)
	err := cut.Bootstrap(t, managertest.Set("extra"), at(server.URL))
	managertest.WantError(t, err, "config.xml:7:5", "can't be read", "extra-3-1.noarch")
	if left := cut.Left(t, "var", "etc/dnf"); len(left) > 0 {
		t.Errorf("something was installed: %q", left)
	}
	server.Close()
	// The address is not the first one.
	other := at("dir://" + w.Repo)
	err = newWorldLike(t, w).Bootstrap(t, managertest.Set("extra"), other, description.Repository{Origin: managertest.Origin(8), Source: server.URL})
	managertest.WantError(t, err, "config.xml:8:5", "can't be read", server.URL)
	managertest.WantError(t, newWorldLike(t, w).Bootstrap(t, managertest.Set("extra"), description.Repository{Origin: managertest.Origin(9), Source: "dir://" + w.Repo, Type: "apt-deb"}), "config.xml:9:5", "apt-deb", "rpm-md")
}

func TestMirrors(t *testing.T) { each(t, bench.testMirrors) }

func (b bench) testMirrors(t *testing.T) {
	w := b.fewWorld(t)
	server := testrepos.Serve(t, w.Repo, "", "")
	server.Answer("/mirrors", "http://127.0.0.1:9/gone/\n"+server.URL+"/\n")
	repomd, err := os.ReadFile(filepath.Join(w.Repo, "repodata/repomd.xml"))
	managertest.Must(t, err)
	sum, err := packages.Sum(filepath.Join(w.Repo, "repodata/repomd.xml"))
	managertest.Must(t, err)
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
		managertest.Must(t, other.Bootstrap(t, managertest.Set("extra"), repo))
		other.wantInstalled(t, "extra-3")
	}
	server.Answer("/mirrors", "<html>no list</html>")
	repo := at(server.URL + "/mirrors")
	repo.SourceType = "mirrorlist"
	managertest.WantError(t, newWorldLike(t, w).Bootstrap(t, managertest.Set("extra"), repo), "config.xml:7:5", "can't be read")
}

func TestCache(t *testing.T) { asBoth(t, bench.testCache) }

func (b bench) testCache(t *testing.T) {
	w := b.fewWorld(t)
	w.Cache = t.TempDir()
	server := testrepos.Serve(t, w.Repo, "", "")
	managertest.Must(t, w.Bootstrap(t, managertest.Set("extra"), at(server.URL)))
	server.Requests()
	again := newWorldLike(t, w)
	managertest.Must(t, again.Bootstrap(t, managertest.Set("extra"), at(server.URL)))
	if got := server.Requests(); len(got) != 1 || got[0] != "/repodata/repomd.xml" {
		t.Errorf("with a cache it fetched %q", got)
	}
	var damaged string
	managertest.Must(t, eachPackage(w.Cache, func(name string) { damaged = name }))
	managertest.Must(t, os.Chmod(damaged, 0o644))
	data, err := os.ReadFile(damaged)
	managertest.Must(t, err)
	data[len(data)-1] ^= 1
	managertest.Must(t, os.Remove(damaged))
	managertest.Must(t, os.WriteFile(damaged, data, 0o644))
	third := newWorldLike(t, w)
	managertest.Must(t, third.Bootstrap(t, managertest.Set("extra"), at(server.URL)))
	third.wantInstalled(t, "extra-3")
	if !server.Fetched("extra-3-1.noarch.rpm") {
		t.Error("a damaged package was not fetched anew")
	}
	server.Close()
	off := newWorldLike(t, w)
	off.Offline = true
	managertest.Must(t, off.Bootstrap(t, managertest.Set("extra"), at(server.URL)))
	off.wantInstalled(t, "extra-3")
	managertest.WantError(t, off.Bootstrap(t, managertest.Set("hello"), at(server.URL)), "the package cache lacks greeting-1:2.0-1.noarch, hello-1.0-1.noarch", "--offline")
	off.Cache = t.TempDir()
	managertest.WantError(t, off.Bootstrap(t, managertest.Set("hello"), at(server.URL)), "config.xml:7:5", "not in the package cache", "--offline")
	// A directory of this machine needs no cache.
	managertest.Must(t, off.Bootstrap(t, managertest.Set("hello")))
}

func TestLockAndUpdate(t *testing.T) { each(t, bench.testLockAndUpdate) }

func (b bench) testLockAndUpdate(t *testing.T) {
	old := []testrepos.RPM{{Name: "tool", Version: "1", Requires: []string{"library"}}, {Name: "library", Version: "1", Epoch: "1"}}
	w := b.newWorld(t, testrepos.RPMRepo{Packages: old})
	s, err := w.Open(t)
	managertest.Must(t, err)
	managertest.Must(t, s.Bootstrap(t.Context(), managertest.Set("tool")))
	locked := s.Installed()
	managertest.Must(t, s.Close())
	testrepos.MakeRPMRepo(t, w.Repo, testrepos.RPMRepo{Packages: []testrepos.RPM{{Name: "tool", Version: "2", Requires: []string{"library"}}, {Name: "library", Version: "2", Epoch: "1"}, {Name: "other"}}})
	obeying := newWorldLike(t, w)
	obeying.Locked = locked
	s, err = obeying.Open(t)
	managertest.Must(t, err)
	managertest.Must(t, s.Bootstrap(t.Context(), managertest.Set("tool")))
	if diff := cmp.Diff(locked, s.Installed()); diff != "" {
		t.Error(diff)
	}
	managertest.WantError(t, s.Install(t.Context(), managertest.Set("other")), "lacks the package other", "--locked")
	managertest.Must(t, s.Close())
	obeying.wantInstalled(t, "library-1:1", "tool-1")

	s, err = w.Open(t)
	managertest.Must(t, err)
	managertest.Must(t, s.Update(t.Context()))
	managertest.Must(t, s.Update(t.Context()))
	if got := s.Installed(); len(got) != 2 || got[0].String() != "library-1:2-1.noarch" {
		t.Errorf("updated %+v", got)
	}
	managertest.Must(t, s.Close())
	w.wantInstalled(t, "library-1:2", "tool-2")

	// The same version with another content.
	managertest.Must(t, os.Remove(filepath.Join(w.Repo, "library-1-1.noarch.rpm")))
	testrepos.MakeRPMRepo(t, w.Repo, testrepos.RPMRepo{Packages: []testrepos.RPM{{Name: "library", Version: "1", Epoch: "1", Provides: []string{"more"}}}})
	changed := newWorldLike(t, w)
	changed.Locked = locked
	managertest.WantError(t, changed.Bootstrap(t, managertest.Set("tool")), "package library-1:1-1.noarch has the checksum", "--locked")
	managertest.Must(t, os.Remove(filepath.Join(w.Repo, "tool-1-1.noarch.rpm")))
	testrepos.IndexRPM(t, w.Repo, testrepos.RPMRepo{})
	managertest.WantError(t, changed.Bootstrap(t, managertest.Set("tool")), "lacks the package tool", "--locked")
}

func TestPlainDirectory(t *testing.T) { each(t, bench.testPlainDirectory) }

func (b bench) testPlainDirectory(t *testing.T) {
	dir := t.TempDir()
	managertest.Must(t, os.Chmod(dir, 0o755))
	for _, p := range few()[:3] {
		testrepos.BuildRPM(t, filepath.Join(dir, "some", p.Name), p)
	}
	w := b.emptyWorld(t, dir)
	repo := at("dir://" + dir)
	repo.Type = "rpm-dir"
	s, err := w.Open(t, repo)
	managertest.Must(t, err)
	managertest.Must(t, s.Bootstrap(t.Context(), managertest.Set("hello")))
	if got := s.Installed(); len(got) != 2 || !strings.HasPrefix(got[0].Checksum, "sha256:") {
		t.Errorf("%+v", got)
	}
	managertest.Must(t, s.Close())
	w.wantInstalled(t, "greeting-1:2.0", "hello-1.0")
	w.nothingLeft(t)
	repo = at("http://127.0.0.1:9/x")
	repo.Type = "rpm-dir"
	managertest.WantError(t, newWorldLike(t, w).Bootstrap(t, managertest.Set("hello"), repo), "config.xml:7:5", "has no index", "rpm-md")
}
