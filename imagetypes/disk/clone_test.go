package disk

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// TestClones lets sgdisk and e2fsck look at a disk with copies of partitions.
func TestClones(t *testing.T) {
	testenv.NeedPrograms(t, "sgdisk", "e2fsck", "dd")
	const uuid = "01234567-89ab-cdef-0123-456789abcdef"
	r := newer(t, withHostGrub(t, smallTree(t)), `filesystem="ext4" firmware="efi" eficsm="false" bootpartition="true" bootpartsize="100" boot_clone="1" root_clone="2"`,
		`<size unit="M">701</size><partitions><partition name="data" size="20" filesystem="ext4" mountpoint="/var" clone="1" part_uuid="`+uuid+`"/></partitions>`)
	d, tree, err := designOf(t, r)
	if err != nil {
		t.Fatal(err)
	}
	raw := build(t, r)
	if out := testenv.Run(t, "sgdisk", "-v", raw); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk: %s", out)
	}
	names := []string{}
	contents := map[string][]byte{}
	data, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range d.table.Partitions {
		names = append(names, p.Name)
		contents[p.Name] = data[p.Start:p.End()]
	}
	want := []string{"p.UEFI", "p.lxbootclone1", "p.lxboot", "p.lxdataclone1", "p.lxdata", "p.lxrootclone1", "p.lxrootclone2", "p.lxroot"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	for copied, original := range map[string]string{"p.lxbootclone1": "p.lxboot", "p.lxdataclone1": "p.lxdata", "p.lxrootclone1": "p.lxroot", "p.lxrootclone2": "p.lxroot"} {
		if !bytes.Equal(contents[copied], contents[original]) {
			t.Errorf("%s and %s differ: %d and %d bytes", copied, original, len(contents[copied]), len(contents[original]))
		}
	}
	if n := len(contents["p.lxroot"]); n < 140<<20 {
		t.Errorf("the root has %d MiB of 701", n>>20)
	}
	part := filepath.Join(t.TempDir(), "part")
	if err := os.WriteFile(part, contents["p.lxrootclone2"], 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "e2fsck", "-fn", part)
	if out := testenv.Run(t, "sgdisk", "-i", "5", raw); !strings.Contains(strings.ToLower(out), "unique guid: "+uuid) {
		t.Errorf("sgdisk: %s", out)
	}
	for file, want := range map[string]string{
		"etc/fstab": "PARTUUID=" + root(d.volumes).PartUUID + " / ext4", "config.bootoptions": "root=PARTUUID=" + root(d.volumes).PartUUID + " ",
		"config.partids": "kiwi_rootPartClone2=\"7\"\n", "boot/grub/grub.cfg": "search --no-floppy --fs-uuid --hint=hd0,gpt3 --set=root " + bootVolume(d.volumes).UUID + "\n",
	} {
		text, err := tree.ReadFile(file, maxText)
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("/%s lacks %q: %v\n%s", file, want, err, text)
		}
	}
	for _, c := range []struct{ attributes, content, want string }{
		{`firmware="bios"`, `<partitions><partition name="a" size="5" part_uuid="` + uuid + `"/></partitions>`, "no identifiers"},
		{`firmware="efi"`, `<partitions><partition name="a" size="5" part_uuid="1234"/></partitions>`, "no identifier 1234"},
	} {
		if _, _, err := designOf(t, newer(t, smallTree(t), `filesystem="ext4" `+c.attributes, c.content)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v lacks %q", fmt.Sprint(c), err, c.want)
		}
	}
}
