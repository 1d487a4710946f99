package description

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const withRepositories = `
<repository alias="one" username="u" password="p"><source path="http://me:secret@example.org/one"/></repository>
<repository alias="inside" imageonly="true"><source path="dir:///inside"/></repository>
<packages type="image"><package name="vim"/></packages>
<packages type="bootstrap"><package name="base"/></packages>
<preferences><type image="oci"/></preferences>`

func aliases(img *Image) []string {
	var names []string
	for _, r := range img.Repositories {
		names = append(names, r.Alias+" "+r.Source)
	}
	return names
}

func TestWith(t *testing.T) {
	doc := loadString(t, small("x", withRepositories))
	img, err := doc.Resolve(Selection{Type: "oci", Arch: "x86_64"})
	if err != nil {
		t.Fatal(err)
	}
	set, err := ParseRepository("http://example.org/set,apt-deb,set,7,true,false,{file:///a;/b},main contrib,stable,true")
	if err != nil {
		t.Fatal(err)
	}
	add, err := ParseRepository("dir:///add,,add")
	if err != nil {
		t.Fatal(err)
	}
	changed, err := img.With(Overrides{
		SetRepo: &set, AddRepos: []Repository{add}, SigningKeys: []string{"/c"},
		AddPackages: []string{"emacs"}, AddBootstrapPackages: []string{"more"}, DeletePackages: []string{"nano"},
		DerivedFrom: []string{"docker://debian:12"}, ContainerTag: "2", ContainerLabels: map[string]string{"b": "2", "a": "1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"set http://example.org/set", "inside dir:///inside", "add dir:///add"}
	if diff := cmp.Diff(want, aliases(changed)); diff != "" {
		t.Errorf("repositories (-want +got):\n%s", diff)
	}
	first := changed.Repositories[0]
	if first.Priority != 7 || !first.ImageInclude || first.PackageGPGCheck != False || first.RepoGPGCheck != True ||
		first.Distribution != "stable" || strings.Join(first.Components, "+") != "main+contrib" || len(first.SigningKeys) != 3 {
		t.Errorf("the set repository: %+v", first)
	}
	p := &changed.Packages
	got := strings.Join(Names(p.System.Packages), " ") + "|" + strings.Join(Names(p.Bootstrap.Packages), " ") + "|" + strings.Join(Names(p.Delete), " ")
	if got != "emacs vim|base dnf more|nano" {
		t.Errorf("packages %q", got)
	}
	c := changed.Type.Container
	if c.Tag != "2" || len(c.Labels) != 2 || c.Labels[0].Name != "a" || changed.Type.DerivedFrom[0] != "docker://debian:12" {
		t.Errorf("container %+v", c)
	}
	if diff := cmp.Diff([]string{"one http://me:secret@example.org/one", "inside dir:///inside"}, aliases(img)); diff != "" {
		t.Errorf("the original image has changed:\n%s", diff)
	}
	if xml := string(changed.XML()); !strings.Contains(xml, `name="emacs"`) || strings.Contains(xml, "secret") {
		t.Errorf("the description of the changed image:\n%s", xml)
	}
	xml := string(img.XML())
	for _, secret := range []string{"secret", "password", "username", "me:"} {
		if strings.Contains(xml, secret) {
			t.Errorf("the kept description holds %q:\n%s", secret, xml)
		}
	}
}

func TestWithoutRepositories(t *testing.T) {
	doc := loadString(t, small("x", withRepositories))
	img, err := doc.Resolve(Selection{Arch: "x86_64"})
	if err != nil {
		t.Fatal(err)
	}
	none, err := img.With(Overrides{IgnoreRepos: true})
	if err != nil || len(none.Repositories) != 0 {
		t.Errorf("without repositories: %v %v", aliases(none), err)
	}
	inside, err := img.With(Overrides{IgnoreReposUsedForBuild: true})
	if err != nil || len(inside.Repositories) != 1 || !inside.Repositories[0].ImageOnly {
		t.Errorf("without the build's repositories: %v", err)
	}
}

func TestWithErrors(t *testing.T) {
	img, err := loadString(t, small("x", withRepositories)).Resolve(Selection{Arch: "x86_64"})
	if err != nil {
		t.Fatal(err)
	}
	bad, err := ParseRepository("dir:///x,rpm,an alias")
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Overrides{
		"tag of no container": {ContainerTag: "2"},
		"unknown attribute":   {TypeAttributes: map[string]string{"bootpartsiz": "200"}},
		"wrong attribute":     {TypeAttributes: map[string]string{"bootpartsize": "large"}},
		"repository":          {AddRepos: []Repository{bad}},
	} {
		_, err := img.With(o)
		if err == nil || !strings.HasPrefix(err.Error(), "command line: ") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	for _, spec := range []string{"", ",apt-deb", "x,,,high", "x,,,,maybe", "x,,,,,,,,,,,"} {
		if _, err := ParseRepository(spec); err == nil {
			t.Errorf("repository %q: no error", spec)
		}
	}
	_, err = ParseRepository("http://u:secret@example.org/,,,high")
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v", err)
	}
}
