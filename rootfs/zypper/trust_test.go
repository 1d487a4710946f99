package zypper

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/testrepos"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/packages/managertest"
)

// TestSignatures installs from repositories with different signatures.
func TestSignatures(t *testing.T) {
	needZypper(t)
	one, two := testrepos.NewKey(t, "one"), testrepos.NewKey(t, "two")
	repo := func(packageKey, indexKey *testrepos.Key) string {
		dir := t.TempDir()
		testrepos.MakeRPMRepo(t, dir, testrepos.RPMRepo{Packages: []testrepos.RPM{{Name: "thing"}}, Key: packageKey, IndexKey: indexKey})
		return dir
	}
	both, unsigned, packagesOnly, wrongPackage := repo(&one, &one), repo(nil, nil), repo(&one, nil), repo(&two, &one)
	for _, c := range []struct {
		name, dir   string
		keys        []testrepos.Key
		index, pkgs description.Tristate
		check       bool
		want        string // "" is success
	}{
		{name: "all is right", dir: both, keys: []testrepos.Key{two, one}, check: true},
		{name: "no key", dir: both, check: true, want: "config.xml:7:5: repository dir://" + both + ": its signature can't be verified"},
		{name: "another key", dir: both, keys: []testrepos.Key{two}, check: true, want: "its signature can't be verified"},
		{name: "nothing is checked", dir: both, keys: []testrepos.Key{two}},
		{name: "unsigned", dir: unsigned, keys: []testrepos.Key{one}, check: true, want: "its signature can't be verified"},
		{name: "unsigned and not checked", dir: unsigned},
		{name: "an unsigned package", dir: unsigned, keys: []testrepos.Key{one}, index: description.False, pkgs: description.True, want: "the signature of a package can't be verified"},
		{name: "packages alone are checked", dir: packagesOnly, keys: []testrepos.Key{one}, index: description.False, check: true},
		{name: "a package with another key", dir: wrongPackage, keys: []testrepos.Key{one}, check: true, want: "config.xml:7:5: repository dir://" + wrongPackage + ": the signature of a package can't be verified"},
		{name: "the index alone is checked", dir: wrongPackage, keys: []testrepos.Key{one}, index: description.True},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, c.dir)
			w.Image.RPM.CheckSignatures = c.check
			r := description.Repository{Origin: managertest.Origin(7), Source: "dir://" + c.dir, RepoGPGCheck: c.index, PackageGPGCheck: c.pkgs}
			for _, key := range c.keys {
				r.SigningKeys = append(r.SigningKeys, description.SigningKey{URI: "file://" + key.Public})
			}
			err := w.Bootstrap(t, managertest.Set("thing"), r)
			if c.want == "" {
				managertest.Must(t, err)
				w.wantInstalled(t, "thing-1-1")
				return
			}
			managertest.WantError(t, err, c.want)
			w.wantInstalled(t)
		})
	}
}

func TestUnreachable(t *testing.T) {
	needZypper(t)
	w := newWorld(t, sharedRepo(t))
	at := func(source string) description.Repository {
		return description.Repository{Origin: managertest.Origin(7), Source: source}
	}
	server := testrepos.Serve(t, w.Repo, "", "")
	managertest.WantError(t, w.Bootstrap(t, managertest.Set("hello"), at(server.URL+"/nowhere")), "config.xml:7:5: repository "+server.URL+"/nowhere: it can't be read: Repository type can't be determined")
	server.Cut(func(path string) bool { return strings.HasSuffix(path, ".rpm") })
	managertest.WantError(t, w.Bootstrap(t, managertest.Set("hello"), at(server.URL)), "config.xml:7:5: repository "+server.URL+": it can't be read")
	server.Cut(func(path string) bool { return strings.Contains(path, "primary") })
	managertest.WantError(t, w.Bootstrap(t, managertest.Set("hello"), at(server.URL)), "config.xml:7:5: repository "+server.URL+": it can't be read")
	server.Close()
	managertest.WantError(t, w.Bootstrap(t, managertest.Set("hello"), at(server.URL)), "config.xml:7:5: repository "+server.URL+": it can't be read", "onnect")
	managertest.WantError(t, w.Bootstrap(t, managertest.Set("hello"), at("http://nowhere.invalid/")), "nowhere.invalid", "it can't be read", "resolve")
	apt := at("dir://" + w.Repo)
	apt.Type = "apt-deb"
	managertest.WantError(t, w.Bootstrap(t, managertest.Set("hello"), apt), "config.xml:7:5", "zypper can't read a repository of type apt-deb")
	w.wantInstalled(t)
}

func TestCredentials(t *testing.T) {
	needZypper(t)
	const password = "a se?cr&t%"
	w := newWorld(t, sharedRepo(t))
	w.Cache = t.TempDir()
	server := testrepos.Serve(t, w.Repo, "me", password)
	r := description.Repository{Origin: managertest.Origin(7), Source: server.URL, Username: "me", Password: password}
	managertest.Must(t, w.Bootstrap(t, managertest.Set("hello"), r))
	w.wantInstalled(t, "greeting-1:2.0-1", "hello-1.0-1")
	if !server.Fetched(".rpm") {
		t.Error("the packages did not come from the server")
	}
	w.NoSecret(t, password)
	w.NoSecret(t, "a%20se")
	r.Password = "wrong-secret"
	other := newWorld(t, w.Repo)
	err := other.Bootstrap(t, managertest.Set("hello"), r)
	managertest.WantError(t, err, "config.xml:7:5: repository "+server.URL+": it refuses access", "right username and password")
	other.NoSecret(t, "wrong-secret", err.Error())
}

func TestPlainDirectoryMirrorsAndScript(t *testing.T) {
	needZypper(t)
	dir := t.TempDir()
	managertest.Must(t, os.Chmod(dir, 0o755))
	testrepos.BuildRPM(t, filepath.Join(dir, "noarch"), testrepos.RPM{Name: "plain", Version: "7"})
	w := newWorld(t, sharedRepo(t))
	plain := description.Repository{Origin: managertest.Origin(7), Source: "dir://" + dir, Type: "rpm-dir"}
	server := testrepos.Serve(t, w.Repo, "", "")
	server.Answer("/mirrors", "http://127.0.0.1:9/dead/\n"+server.URL+"/\n")
	list := description.Repository{Origin: managertest.Origin(8), Source: server.URL + "/mirrors", SourceType: "mirrorlist"}
	managertest.Must(t, w.Bootstrap(t, managertest.Set("plain", "hello"), plain, list))
	w.wantInstalled(t, "greeting-1:2.0-1", "hello-1.0-1", "plain-7-1")
	scripted := description.Repository{Origin: managertest.Origin(9), Source: "dir://" + w.Repo, Customize: "edit.sh"} // switches it off
	managertest.WantError(t, newWorld(t, w.Repo).Bootstrap(t, managertest.Set("hello"), scripted), "no enabled repositories defined")
}

// TestSeveralRepositories has one of two that can't be read, and two with the same package.
func TestSeveralRepositories(t *testing.T) {
	needZypper(t)
	top := t.TempDir()
	testrepos.MakeRPMRepo(t, filepath.Join(top, "15.6"), testrepos.RPMRepo{Packages: []testrepos.RPM{{Name: "thing", Version: "1"}}})
	testrepos.MakeRPMRepo(t, filepath.Join(top, "newer"), testrepos.RPMRepo{Packages: []testrepos.RPM{{Name: "thing", Version: "2"}}})
	server := testrepos.Serve(t, top, "", "")
	first := description.Repository{Origin: managertest.Origin(7), Source: server.URL + "/$releasever", Alias: "first", Priority: 1}
	newer := description.Repository{Origin: managertest.Origin(8), Source: server.URL + "/newer", Alias: "newer"}
	w := newWorld(t, top)
	w.Image.ReleaseVersion = "15.6"
	var got []packages.Package
	managertest.Must(t, w.With(t, func(s packages.Session) error {
		defer func() { got = s.Installed() }()
		return s.Bootstrap(t.Context(), managertest.Set("thing"))
	}, newer, first))
	w.wantInstalled(t, "thing-1-1") // the repository's priority counts more than the version
	if len(got) != 1 || got[0].Repository != "first" {
		t.Errorf("%+v", got)
	}
	dead := description.Repository{Origin: managertest.Origin(9), Source: server.URL + "/dead"}
	managertest.WantError(t, newWorld(t, top).Bootstrap(t, managertest.Set("thing"), newer, dead), "config.xml:9:5: repository "+server.URL+"/dead: it can't be read")
}
