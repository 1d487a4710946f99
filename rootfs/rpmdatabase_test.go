package rootfs

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/testrepos"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/database"
)

// rpmDescription is a description of a system of packages from one repository.
func rpmDescription(manager, repo, key string) string {
	return `<?xml version="1.0" encoding="utf-8"?>
<image schemaversion="8.0" name="from-packages">
  <description type="system"><author>A</author><contact>a@example.org</contact><specification>test</specification></description>
  <preferences>
    <version>1.0.0</version><packagemanager>` + manager + `</packagemanager><rpm-check-signatures>true</rpm-check-signatures>
    <type image="tbz"/>
  </preferences>
  <repository type="rpm-md" repository_gpgcheck="true"><source path="dir://` + repo + `"><signing key="file://` + key + `"/></source></repository>
  <packages type="bootstrap"><package name="base"/></packages>
  <packages type="image"><package name="hello"/><package name="top"/></packages>
  <packages type="delete"><package name="greeting"/></packages>
  <packages type="uninstall"><package name="top"/></packages>
</image>
`
}

// TestZypperTwice makes a root tree from nothing with zypper, twice, and compares.
func TestZypperTwice(t *testing.T) { testenv.AsBoth(t, testZypperTwice) }

func testZypperTwice(t *testing.T) {
	testenv.NeedPrograms(t, "zypper", "rpm", "rpmbuild", "createrepo_c")
	repo := t.TempDir()
	key := testrepos.NewKey(t, "one")
	testrepos.MakeRPMRepo(t, repo, testrepos.RPMRepo{
		Packages: append(testrepos.Distribution(t, "opensuse-leap"), testrepos.RPM{Name: "zypper"}, testrepos.RPM{Name: "hello", Requires: []string{"greeting"}}, testrepos.RPM{Name: "greeting"},
			testrepos.RPM{Name: "top", Requires: []string{"below"}}, testrepos.RPM{Name: "below"}),
		Key: &key, IndexKey: &key,
	})
	image := load(t, map[string]string{"config.xml": rpmDescription("zypper", repo, key.Public)})
	result, log := overlayOf(t, layers.NewTree(), image, fastDir(t), "")
	db, err := database.Open(result.Tree)
	if err != nil || db == nil || db.Kind() != database.RPM {
		t.Fatalf("%v, %v\n%s", db, err, log)
	}
	names := func(list []database.Package) (names []string) {
		for _, p := range list {
			names = append(names, p.Name)
		}
		return names
	}
	if diff := cmp.Diff([]string{"base", "busybox", "filesystem", "hello", "release", "zypper"}, names(db.Installed())); diff != "" {
		t.Error(diff)
	}
	if len(result.Installed) != 9 {
		t.Errorf("told are %v", result.Installed)
	}
	if testenv.InUserNamespace() {
		return
	}
	time.Sleep(1100 * time.Millisecond) // rpm and zypper note seconds
	second, _ := overlayOf(t, layers.NewTree(), image, fastDir(t), "")
	sameTrees(t, result.Tree, second.Tree)
}
