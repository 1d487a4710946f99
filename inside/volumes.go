package inside

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/internal/helperkernel"
	"github.com/imgbuild/imgbuild/internal/spool"
	"github.com/imgbuild/imgbuild/layers"
)

// volume is a block device that a kernel makes of a part of an image.
type volume struct {
	name     string // what is done, for logs and errors
	script   string // makes the device of $disk1 and puts its path into $device
	end      string // takes it down again
	programs []string
	modules  []string
	memory   int    // MiB, 0 for the default
	secret   []byte // what $disk3 begins with, nil for no such disk
}

// ErrPassphrase says that an image is encrypted and nobody has given its passphrase.
var ErrPassphrase = errors.New("what is in it is encrypted: give a file with its passphrase (--passphrase-file)")

// device copies what a block device holds.
func (o *opener) device(ctx context.Context, p part, v volume) (part, error) {
	out, err := spool.New(o.TempDir)
	if err != nil {
		return part{}, fmt.Errorf("making a temporary file: %w", err)
	}
	o.keep(out)
	// A thin volume may be larger than what it lies on.
	if err := out.Truncate(max(4*p.size, 1<<30)); err != nil {
		return part{}, fmt.Errorf("making a temporary file: %w", err)
	}
	v.script += `
size=$(blockdev --getsize64 $device)
dd if=$device of=$disk2 bs=1M conv=sparse,fsync status=none
` + v.end + `
echo "size $size"
`
	v.programs = append(v.programs, "dd", "blockdev")
	said, err := o.kernelRun(ctx, p, v, helperkernel.Disk{File: out})
	if err != nil {
		return part{}, err
	}
	_, digits, _ := strings.Cut(strings.TrimSpace(said), "size ")
	size, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return part{}, fmt.Errorf("%s: the size was not told: %s", v.name, said)
	}
	return part{file: out, size: size}, out.Truncate(size)
}

// kernelRun runs a volume's script in a helper kernel, with the part as its first disk.
func (o *opener) kernelRun(ctx context.Context, p part, v volume, disks ...helperkernel.Disk) (string, error) {
	disks = slices.Insert(disks, 0, helperkernel.Disk{File: p.file, Offset: p.offset, Size: p.size &^ 511, ReadOnly: true})
	if v.secret != nil {
		secret, err := helperkernel.MemoryDisk("passphrase", v.secret)
		if err != nil {
			return "", err
		}
		defer secret.Close()
		disks = append(disks, helperkernel.Disk{File: secret, ReadOnly: true})
	}
	return helperkernel.Run(ctx, helperkernel.Spec{
		Name: v.name, Script: v.script, Disks: disks, Programs: v.programs, Modules: v.modules, Memory: v.memory, Kind: o.Kernel, Kernels: o.Kernels, Log: o.Log,
	})
}

// unlock opens a LUKS volume.
func (o *opener) unlock(ctx context.Context, p part) (part, error) {
	if len(o.Passphrase) == 0 {
		return part{}, ErrPassphrase
	}
	inner, err := o.device(ctx, p, volume{
		name: "unlocking the LUKS volume",
		script: fmt.Sprintf(`cryptsetup open --type luks --readonly --disable-locks --key-file $disk3 --keyfile-size %d $disk1 unlocked
device=/dev/mapper/unlocked`, len(o.Passphrase)),
		end: "cryptsetup close --disable-locks unlocked", programs: []string{"cryptsetup"},
		modules: []string{"dm-mod", "dm-crypt", "algif_skcipher", "xts", "cbc", "ecb", "essiv", "aes_generic", "sha256_generic", "sha512_generic"},
		memory:  2048, // a key is made with up to a GiB
		secret:  o.Passphrase,
	})
	const wrongPassphrase = 2 // exit code: cryptsetup(8)
	if failed := (*helperkernel.ScriptError)(nil); errors.As(err, &failed) && failed.Code == wrongPassphrase {
		return part{}, errors.New("its passphrase is another one")
	}
	return inner, err
}

// assemble opens a member of a RAID that has all of its content, as those of RAID 1 have.
func (o *opener) assemble(ctx context.Context, p part) (part, error) {
	return o.device(ctx, p, volume{
		name:   "assembling the RAID",
		script: "mdadm --assemble --readonly --run /dev/md0 $disk1\ndevice=/dev/md0",
		end:    "mdadm --stop /dev/md0", programs: []string{"mdadm"}, modules: []string{"md-mod", "raid0", "raid1", "raid10", "raid456", "linear"},
	})
}

// lvm is the beginning of scripts for LVM, which neither obeys this machine's settings nor waits for a udev that is not there.
const lvm = `cat >/tmp/lvm.sh <<'END'
export LVM_SYSTEM_DIR=/tmp/lvm LVM_SUPPRESS_FD_WARNINGS=1
exec lvm "$@" --nolocking --devicesfile '' --config 'backup { archive = 0 backup = 0 } activation { udev_sync = 0 udev_rules = 0 verify_udev_operations = 0 monitoring = 0 } devices { scan = [ "/dev" ] obtain_device_list_from_udev = 0 external_device_info_source = "none" } global { use_lvmpolld = 0 }'
END
`

// logicalVolume opens the logical volume that is named, as GROUP/VOLUME or VOLUME, or else the one with the root tree.
func (o *opener) logicalVolume(ctx context.Context, p part, parts []string) (*layers.Tree, error) {
	list, err := o.logicalVolumes(ctx, p)
	if err != nil {
		return nil, err
	}
	wanted := ""
	if len(parts) > 0 {
		wanted, parts = parts[0], parts[1:]
	}
	chosen := chooseVolume(list, wanted)
	if chosen < 0 {
		var names []string
		for _, v := range list {
			names = append(names, v.name)
		}
		return nil, fmt.Errorf("it has no logical volume %q; it has %s", wanted, strings.Join(names, ", "))
	}
	v := list[chosen]
	group, _, _ := strings.Cut(v.name, "/")
	inner, err := o.device(ctx, p, volume{
		name:     "opening the logical volume " + v.name,
		script:   lvm + "sh /tmp/lvm.sh lvchange -a y -K " + v.name + "\ndevice=/dev/" + v.name,
		end:      "sh /tmp/lvm.sh vgchange -a n " + group,
		programs: []string{"lvm", "cat"}, modules: volumeModules(),
	})
	if err != nil {
		return nil, err
	}
	return o.tree(ctx, inner, parts)
}

// volumeModules are the kernel's modules for kinds of logical volumes.
func volumeModules() []string {
	return []string{"dm-mod", "dm-mirror", "dm-snapshot", "dm-thin-pool", "dm-raid", "dm-cache", "dm-cache-smq"}
}

// logical is a logical volume.
type logical struct {
	name string // GROUP/VOLUME
	size int64  // bytes
}

// logicalVolumes lists those that lie on a part.
func (o *opener) logicalVolumes(ctx context.Context, p part) ([]logical, error) {
	said, err := o.kernelRun(ctx, p, volume{
		name: "listing logical volumes", script: lvm + "sh /tmp/lvm.sh lvs --noheadings --units b --nosuffix -o vg_name,lv_name,lv_size 2>/tmp/lvm.log || { cat /tmp/lvm.log; false; }\n",
		programs: []string{"lvm", "cat"}, modules: volumeModules(),
	})
	if err != nil {
		return nil, err
	}
	var list []logical
	for line := range strings.Lines(said) {
		words := strings.Fields(line)
		if len(words) != 3 {
			continue
		}
		size, err := strconv.ParseInt(words[2], 10, 64)
		if err != nil || !plainName(words[0]) || !plainName(words[1]) {
			return nil, fmt.Errorf("listing logical volumes: %q is none", strings.TrimSpace(line))
		}
		list = append(list, logical{words[0] + "/" + words[1], size})
	}
	return list, nil
}

// plainName reports whether a name is one that LVM allows (lvm(8), valid names), so that a shell may see it.
func plainName(name string) bool {
	return name != "" && name[0] != '-' && !strings.ContainsFunc(name, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("+_.-", c)
	})
}

// chooseVolume finds the volume that is named, as GROUP/VOLUME or VOLUME; without a name the one that is called after the root, else the largest.
// It returns -1 if there is none.
func chooseVolume(list []logical, wanted string) int {
	best := -1
	for i, v := range list {
		_, short, _ := strings.Cut(v.name, "/")
		switch {
		case wanted != "":
			if v.name == wanted || short == wanted {
				return i
			}
		case strings.EqualFold(short, "root") || strings.EqualFold(short, "lvroot"):
			return i
		case best < 0 || v.size > list[best].size:
			best = i
		}
	}
	return best
}
