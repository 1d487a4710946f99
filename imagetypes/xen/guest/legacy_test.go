package guest

import (
	"fmt"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/internal/imagetest"
	"github.com/imgbuild/imgbuild/internal/testenv"
)

// TestDescriptionOf2006 makes a guest of a description in KIWI's format of 2006, whose <xenvm> says what a Xen machine has.
func TestDescriptionOf2006(t *testing.T) {
	testenv.NeedProgram(t, "mke2fs")
	files := fstest.MapFS{"VERSION": {Data: []byte("1.1.2\n")}, "config.xml": {Data: []byte(`<directory>
  <image name="kiosk"/> <image type="ext3"/>
  <entry type="apt-deb" source="http://deb.debian.org/debian"/> <entry name="bash"/>
  <xenvm name="linux-image-amd64"/>
</directory>
`)}}
	doc, err := description.LoadFS(files, "", description.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	resolve := func(profiles ...string) *description.Image {
		t.Helper()
		resolved, err := doc.Resolve(description.Selection{Arch: "x86_64", Profiles: profiles})
		if err != nil {
			t.Fatal(err)
		}
		return resolved
	}
	if plain := resolve(); plain.Type.XenMachine() || plain.Type.Image != "ext3" {
		t.Errorf("what nobody asked to be a guest of Xen is one: %+v", plain.Type)
	}
	r := imagetest.Request(t, sample(t, onlyPV), "ext3", "", "")
	if r.Description = resolve("xen"); !r.Description.Type.XenMachine() {
		t.Fatal("it is no guest of Xen")
	}
	dir, _ := build(t, r)
	if g := imagetest.XL(t)(filepath.Join(dir, imagetest.BaseName+".xenconfig")); g.Info.Name != "kiosk" || g.Info.Type != "pv" || g.Build.Memory != 512<<10 || g.Disks[0].Device != "xvda1" {
		t.Errorf("xl reads %+v", g)
	}
}

// TestSettingsAreNotCalledIdle resolves guests whose settings all count.
func TestSettingsAreNotCalledIdle(t *testing.T) {
	const machine = `<machine memory="512" max_memory="1024" ncpus="1" max_cpu="2"%s><vmconfig-entry>on_crash = "preserve"</vmconfig-entry><vmdisk device="xvda"/><vmnic interface="0" mac="00:16:3e:00:00:01" mode="nat"/></machine>`
	for _, c := range []struct{ kind, attributes, loader string }{
		{"ext4", "", ""}, {"kis", `filesystem="ext4"`, ""}, {"oem", `filesystem="ext4"`, ""}, {"oem", `filesystem="ext4"`, ` xen_loader="pygrub"`},
	} {
		d := imagetest.Describe(t, "x86_64", c.kind, c.attributes, fmt.Sprintf(machine, c.loader))
		if len(d.Warnings) > 0 || !d.Type.XenMachine() {
			t.Errorf("%s%s: %v", c.kind, c.loader, d.Warnings)
		}
	}
}
