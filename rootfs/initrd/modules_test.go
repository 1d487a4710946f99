package initrd

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

func TestWantModules(t *testing.T) {
	testenv.NeedProgram(t, "bash")
	m := Modules{Add: []string{"network", "nfs"}, Omit: []string{"plymouth"}, AddDrivers: []string{"e1000"}, OmitDrivers: []string{"floppy"}}
	kernel := []string{"boot/vmlinuz-6.1", "lib/modules/6.1/kernel/drivers/net/e1000/e1000.ko.xz"}
	edit := newTree(t, append(kernel, "usr/bin/dracut"), nil).Edit(layers.Timespec{})
	if notes, err := WantModules(edit, m); len(notes) > 0 || err != nil {
		t.Errorf("%v, %v", notes, err)
	}
	data, err := edit.ReadFile(dracutModules, 1<<10)
	want := "add_dracutmodules+=\" network nfs \"\nomit_dracutmodules+=\" plymouth \"\nadd_drivers+=\" e1000 \"\nomit_drivers+=\" floppy \"\n"
	if diff := cmp.Diff(want, string(data)); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	testenv.Run(t, "bash", "-eu", "-c", "add_dracutmodules= omit_dracutmodules= add_drivers= omit_drivers=; "+string(data)) // as dracut reads it
	edit = newTree(t, append(kernel, "usr/sbin/mkinitramfs"), nil).Edit(layers.Timespec{})
	notes, err := WantModules(edit, m)
	if err != nil || len(notes) != 1 || !strings.Contains(notes[0], "no dracut") {
		t.Errorf("%v, %v", notes, err)
	}
	if data, err := edit.ReadFile(initramfsModules, 1<<10); err != nil || string(data) != "e1000\n" {
		t.Errorf("%q, %v", data, err)
	}
	if notes, err := WantModules(edit, Modules{AddDrivers: []string{"e1000"}}); len(notes) > 0 || err != nil {
		t.Errorf("%v, %v", notes, err)
	}
}
