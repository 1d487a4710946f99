package disk

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/internal/helperkernel"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

// sfdiskTable is what sfdisk sees.
type sfdiskTable struct {
	Label      string `json:"label"`
	SectorSize int64  `json:"sectorsize"`
	Partitions []struct {
		Start    int64  `json:"start"`
		Type     string `json:"type"`
		Name     string `json:"name"`
		Bootable bool   `json:"bootable"`
	} `json:"partitions"`
}

// TestTables lets sfdisk and sgdisk read partition tables of all kinds.
func TestTables(t *testing.T) {
	testenv.NeedPrograms(t, "sfdisk", "sgdisk")
	const five = `<oemconfig><oem-swap>true</oem-swap></oemconfig><partitions><partition name="a" size="5"/><partition name="b" size="5" partition_type="t.raid"/></partitions>`
	for name, c := range map[string]struct {
		attributes, content string
		label               string
		types               string // as sfdisk has them, with blanks between
		first               int64  // sector
		check               func(t *testing.T, disk string)
	}{
		"bios":     {`firmware="bios"`, "", "dos", "83", 2048, nil},
		"ec2":      {`firmware="ec2"`, "", "dos", "83", 2048, nil},
		"start":    {`firmware="bios" disk_start_sector="4096"`, "", "dos", "83", 4096, nil},
		"msdos":    {`firmware="efi" efiparttable="msdos"`, "", "dos", "ef 83", 2048, nil},
		"forced":   {`firmware="uefi" force_mbr="true"`, "", "dos", "ef 83", 2048, nil},
		"extended": {`firmware="efi" force_mbr="true" dosparttable_extended_layout="true"`, five, "dos", "ef 82 83 f fd 83", 2048, nil},
		"gpt": {`firmware="efi"`, five, "gpt", "21686148-6449-6E6F-744E-656564454649 C12A7328-F81F-11D2-BA4B-00A0C93EC93B 0657FD6D-A4AB-43C4-84E5-0933C84B4F4F " +
			"0FC63DAF-8483-4772-8E79-3D69D8477DE4 A19D880F-05FC-4D3B-A006-743F0F84911E 4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", 2048, nil},
		"hybrid": {`firmware="efi" eficsm="false" gpt_hybrid_mbr="true"`, "", "gpt", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B 4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", 2048, func(t *testing.T, disk string) {
			if out := testenv.Run(t, "sfdisk", "--label-nested", "dos", "-l", disk); !strings.Contains(out, "EFI (FAT") || !strings.Contains(out, "83 Linux") {
				t.Errorf("sfdisk: %s", out)
			}
		}},
		"spare last": {`firmware="efi" eficsm="false" spare_part="50" spare_part_is_last="true" spare_part_fs="ext4"`, `<oemconfig><oem-resize>false</oem-resize></oemconfig><size unit="M">300</size>`, "gpt",
			"C12A7328-F81F-11D2-BA4B-00A0C93EC93B 4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709 0FC63DAF-8483-4772-8E79-3D69D8477DE4", 2048, nil},
	} {
		t.Run(name, func(t *testing.T) {
			disk := build(t, newer(t, withHostGrub(t, smallTree(t)), `filesystem="ext4" `+c.attributes, c.content))
			var got struct{ PartitionTable sfdiskTable }
			if err := json.Unmarshal([]byte(testenv.Run(t, "sfdisk", "--json", disk)), &got); err != nil {
				t.Fatal(err)
			}
			table := got.PartitionTable
			var types []string
			for _, p := range table.Partitions {
				types = append(types, p.Type)
			}
			if table.Label != c.label || strings.Join(types, " ") != c.types || table.Partitions[0].Start != c.first {
				t.Errorf("sfdisk sees %+v", table)
			}
			if c.check != nil {
				c.check(t, disk)
			}
			if c.label == "gpt" {
				if out := testenv.Run(t, "sgdisk", "-v", disk); !strings.Contains(out, "No problems found") {
					t.Errorf("sgdisk: %s", out)
				}
			}
		})
	}
}

// TestLargeSectors has sectors of 4096 bytes, which no BIOS starts.
func TestLargeSectors(t *testing.T) {
	testenv.NeedPrograms(t, "fsck.fat", "e2fsck")
	r := request(t, withHostGrub(t, smallTree(t)), `filesystem="ext4" firmware="efi" target_blocksize="4096"`, "")
	d, _, err := designOf(t, r)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(build(t, r))
	if err != nil {
		t.Fatal(err)
	}
	if string(data[4096:4104]) != "EFI PART" {
		t.Error("the GPT is not in the second sector")
	}
	part := filepath.Join(t.TempDir(), "part")
	for i, check := range [][]string{{"fsck.fat", "-n", part}, {"e2fsck", "-fn", part}} {
		p := d.table.Partitions[i]
		if err := os.WriteFile(part, data[p.Start:p.End()], 0o600); err != nil {
			t.Fatal(err)
		}
		testenv.Run(t, check[0], check[1:]...)
		if i == 0 && binary.LittleEndian.Uint16(data[p.Start+11:]) != 4096 { // bytes per sector
			t.Error("the FAT has other sectors than the disk")
		}
	}
}

// TestEveryFilesystem has a partition with each file system, which a kernel mounts as fstab says.
func TestEveryFilesystem(t *testing.T) {
	testenv.NeedPrograms(t, "mkfs.xfs", "mkfs.btrfs", "mkfs.vfat")
	if _, err := helperkernel.Available(nil); err != nil {
		testenv.Missing(t, "%v", err)
	}
	kinds := []string{"ext2", "ext3", "ext4", "xfs", "btrfs", "fat16", "fat32", "squashfs"}
	edit := withHostGrub(t, smallTree(t)).Edit(layers.Timespec{})
	content := "<partitions>"
	for _, kind := range kinds {
		if err := edit.MkdirAll("srv/"+kind, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := edit.WriteFile("srv/"+kind+"/file", []byte(kind), 0o644); err != nil {
			t.Fatal(err)
		}
		size := map[string]int{"xfs": 320, "btrfs": 300, "fat32": 40}[kind]
		content += fmt.Sprintf(`<partition name="%s" size="%d" filesystem="%[1]s" mountpoint="/srv/%[1]s"/>`, kind, max(size, 20))
	}
	r := request(t, edit.Tree(), `filesystem="ext4" firmware="efi" bootpartition="true" bootfilesystem="fat32" bootpartsize="64" devicepersistency="by-label"`, content+"</partitions>")
	d, tree, err := designOf(t, r)
	if err != nil {
		t.Fatal(err)
	}
	raw := build(t, r)
	f, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var disks []helperkernel.Disk
	script := "mkdir /tmp/at\n"
	for i, v := range d.volumes {
		if v.FS == fsNone {
			continue
		}
		disks = append(disks, helperkernel.Disk{File: f, Offset: d.table.Partitions[i].Start, Size: d.table.Partitions[i].Size, ReadOnly: true})
		kind := v.FS
		if v.isFAT() {
			kind = "vfat"
		}
		script += fmt.Sprintf("mount -t %s -o ro $disk%d /tmp/at\necho %s: $(cat /tmp/at/file 2> /dev/null)\numount /tmp/at\n", kind, len(disks), v.Name)
	}
	out, err := helperkernel.Run(t.Context(), helperkernel.Spec{
		Name: "mounting every partition", Disks: disks, Script: script, Programs: []string{"mount", "umount", "mkdir", "cat"}, Modules: []string{"xfs", "btrfs", "vfat", "squashfs", "ext4"},
	})
	if err != nil {
		t.Fatal(err)
	}
	fstab, err := tree.ReadFile("etc/fstab", maxText)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range kinds {
		if !strings.Contains(out, "p.lx"+kind+": "+kind+"\n") {
			t.Errorf("the kernel sees\n%s", out)
		}
		mounted := map[string]string{"fat16": "vfat", "fat32": "vfat"}[kind]
		if mounted == "" {
			mounted = kind
		}
		if line := fmt.Sprintf(" /srv/%s %s ", kind, mounted); !strings.Contains(string(fstab), line) || kind != "squashfs" && !strings.Contains(string(fstab), "LABEL="+strings.ToUpper(kind)+line) {
			t.Errorf("fstab lacks %s:\n%s", line, fstab)
		}
	}
	testenv.Run(t, "sgdisk", "-v", raw)
	if info := testenv.Run(t, "blkid", "-p", "-O", fmt.Sprint(d.offset(bootVolume(d.volumes))), raw); !strings.Contains(info, `LABEL="BOOT"`) || !strings.Contains(info, `TYPE="vfat"`) {
		t.Errorf("blkid: %s", info)
	}
}

// TestErofsRoot has a root that is never written to, and a boot partition of its own.
func TestErofsRoot(t *testing.T) {
	testenv.NeedPrograms(t, "mkfs.erofs", "fsck.erofs", "blkid")
	r := newer(t, withHostGrub(t, smallTree(t)), `filesystem="erofs" erofscompression="lz4hc,9" firmware="efi" bootpartition="true"`, "")
	d, tree, err := designOf(t, r)
	if err != nil {
		t.Fatal(err)
	}
	raw := build(t, r)
	data, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(t.TempDir(), "root")
	p, _ := d.table.Named(rootVolumeName)
	if err := os.WriteFile(part, data[p.Start:p.End()], 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "fsck.erofs", part)
	if info := testenv.Run(t, "blkid", "-p", part); !strings.Contains(info, root(d.volumes).UUID) || !strings.Contains(info, `TYPE="erofs"`) || !strings.Contains(info, `LABEL="ROOT"`) {
		t.Errorf("blkid: %s", info)
	}
	for file, want := range map[string]string{"etc/fstab": " / erofs defaults 0 0\n", "config.bootoptions": " ro\n", "boot/grub/grub.cfg": "linux /vmlinuz-6.1.0-10-amd64 root=UUID=" + root(d.volumes).UUID + " ro\n"} {
		if text, err := tree.ReadFile(file, maxText); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("/%s lacks %q: %v\n%s", file, want, err, text)
		}
	}
	if v := bootVolume(d.volumes); v.FS != "ext4" {
		t.Errorf("the boot partition is %s", v.FS)
	}
}
