package disk

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/imagetypes/filesystem"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/imagetypes/internal/imagetest"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

const btrfsVolumes = `<systemdisk><volume name="@root=TOP"/><volume name="home" parent="/" copy_on_write="false"/><volume name="logs" mountpoint="/var/log"/></systemdisk>`

func TestBtrfsLayout(t *testing.T) {
	testenv.NeedPrograms(t, "mkfs.btrfs")
	for name, c := range map[string]struct {
		attributes, content string
		want                filesystem.Btrfs
		fstab, words, grub  []string
	}{
		"subvolumes": {
			`filesystem="btrfs" firmware="efi" btrfs_set_default_volume="false" fsmountoptions="compress=zstd"`, btrfsVolumes,
			filesystem.Btrfs{Root: "TOP", KeepDefault: true, Subvolumes: []filesystem.Subvolume{{Name: "home", Path: "home", NoCOW: true}, {Name: "TOP/var/log", Path: "var/log"}}},
			[]string{" / btrfs compress=zstd,subvol=TOP 0 0", " /home btrfs compress=zstd,subvol=home 0 0", " /var/log btrfs compress=zstd,subvol=TOP/var/log 0 0"},
			[]string{" rootflags=subvol=TOP "}, []string{"/TOP/boot/vmlinuz-6.1.0-10-amd64"},
		},
		"snapshot": {
			`filesystem="btrfs" firmware="efi" btrfs_root_is_snapshot="true" btrfs_root_is_readonly_snapshot="true" btrfs_quota_groups="true"`, "",
			filesystem.Btrfs{Root: "@", Snapshot: true, ReadOnly: true, Quota: true},
			[]string{" / btrfs ro,defaults 0 0", " /.snapshots btrfs defaults,subvol=@/.snapshots 0 0"}, []string{" ro"}, []string{"/@/.snapshots/1/snapshot/boot/vmlinuz-6.1.0-10-amd64"},
		},
		"none": {`filesystem="btrfs" firmware="efi" btrfs_root_is_subvolume="false"`, "", filesystem.Btrfs{}, []string{" / btrfs defaults 0 0"}, nil, []string{" /boot/vmlinuz-6.1.0-10-amd64"}},
	} {
		edit := smallTree(t).Edit(layers.Timespec{})
		for file, text := range map[string]string{"usr/share/snapper/config-templates/default": "# template\nSUBVOLUME=\"/x\"\nQGROUP=\"\"\n", "etc/default/snapper": "SNAPPER_CONFIGS=\"\"\n"} {
			if err := edit.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		d, tree, err := designOf(t, request(t, edit.Tree(), c.attributes, c.content))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.want, root(d.volumes).Btrfs); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		has := func(file string, lines []string) {
			data, err := tree.ReadFile(file, 1<<20)
			for _, line := range lines {
				if err != nil || !strings.Contains(string(data), line) {
					t.Errorf("%s: /%s lacks %q: %v\n%s", name, file, line, err, data)
				}
			}
		}
		has("etc/fstab", c.fstab)
		has("config.bootoptions", c.words)
		has("boot/grub/grub.cfg", c.grub)
		if name == "snapshot" {
			has("etc/snapper/configs/root", []string{"SUBVOLUME=\"/\"\n", "QGROUP=\"1/0\"\n"})
			has("etc/default/snapper", []string{"SNAPPER_CONFIGS=\"root\"\n"})
		}
	}
	for _, c := range []struct{ attributes, content, want string }{
		{`filesystem="btrfs" firmware="efi" btrfs_root_is_subvolume="false" btrfs_root_is_snapper_snapshot="true"`, "", "needs a subvolume"},
		{`filesystem="btrfs" firmware="efi"`, `<systemdisk><volume name="srv"/></systemdisk><partitions><partition name="a" size="50" filesystem="ext4" mountpoint="/srv"/></partitions>`, "same mount point"},
		{`filesystem="ext4" firmware="efi" spare_part="50" spare_part_fs="ext4" spare_part_fs_attributes="no-copy-on-write"`, "", "of btrfs alone"},
		{`filesystem="erofs" firmware="efi"`, "", `set bootpartition="true"`},
	} {
		_, _, err := designOf(t, newer(t, smallTree(t), c.attributes, c.content))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: error %v lacks %q", c.attributes, c.content, err, c.want)
		}
	}
}

// newer is request for what came with schema 8.
func newer(t *testing.T, tree *layers.Tree, attributes, content string) *image.Request {
	t.Helper()
	r := request(t, tree, `filesystem="ext4"`, "")
	r.Description = imagetest.DescribeIn(t, "8.3", "x86_64", "oem", attributes, content)
	return r
}

// TestWithoutBIOS has neither the boot code nor the partition that only a BIOS uses.
func TestWithoutBIOS(t *testing.T) {
	testenv.NeedPrograms(t, "mke2fs")
	for _, table := range []string{"gpt", "msdos"} {
		d, tree, err := designOf(t, newer(t, smallTree(t), `filesystem="ext4" firmware="efi" eficsm="false" efiparttable="`+table+`"`, ""))
		if err != nil {
			t.Fatal(err)
		}
		if _, there := d.table.Named(legacyName); there || d.loaders.BIOS != nil {
			t.Errorf("%s: the design is\n%s", table, d)
		}
		if _, err := tree.Lookup("boot/grub/i386-pc"); err == nil {
			t.Errorf("%s: GRUB's modules for a BIOS are on the disk", table)
		}
	}
}
