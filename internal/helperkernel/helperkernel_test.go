package helperkernel

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/userns"
)

// TestMain brings an ordinary user into a user namespace, as the commands do.
func TestMain(m *testing.M) {
	userns.MustEnter()
	os.Exit(m.Run())
}

// kinds are the ways that work on this machine. A root tree with a kernel for QEMU is this machine's own one, or the directory that
// IMGBUILD_TEST_KERNEL_ROOT names.
func kinds(t *testing.T) map[Kind]Spec {
	t.Helper()
	all := map[Kind]Spec{}
	if _, err := findUML(); err == nil {
		all[UML] = Spec{Kind: UML}
	}
	root := "/"
	if dir := os.Getenv("IMGBUILD_TEST_KERNEL_ROOT"); dir != "" {
		root = dir
	}
	kernels := KernelsOf(os.DirFS(root))
	if _, err := findQEMU(kernels); err == nil {
		all[QEMU] = Spec{Kind: QEMU, Kernels: kernels}
	}
	if len(all) == 0 {
		testenv.Missing(t, "neither user-mode Linux nor QEMU with a kernel")
	}
	return all
}

func newDisk(t *testing.T, size int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestRunOnDisks(t *testing.T) {
	for kind, spec := range kinds(t) {
		t.Run(string(kind), func(t *testing.T) {
			whole, part, in := newDisk(t, 1<<20), newDisk(t, 8<<20), newDisk(t, 4096)
			if _, err := in.WriteAt([]byte("what the host wrote\n"), 512); err != nil {
				t.Fatal(err)
			}
			spec.Name = "testing disks"
			spec.Disks = []Disk{{File: whole}, {File: part, Offset: 1 << 20, Size: 2 << 20}, {File: in, Offset: 512, ReadOnly: true}}
			spec.Programs = []string{"head", "cat"}
			spec.Script = `
printf whole >$disk1
printf part >$disk2
cat /sys/class/block/${disk2##*/}/size
head -n 1 $disk3
if printf x 2>/dev/null >$disk3; then sync; fi
`
			out, err := Run(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			if want := "4096\nwhat the host wrote\n"; out != want {
				t.Errorf("the script printed %q, not %q", out, want)
			}
			got := make([]byte, 5)
			if _, err := whole.ReadAt(got, 0); err != nil || string(got) != "whole" {
				t.Errorf("%q, %v", got, err)
			}
			if _, err := part.ReadAt(got, 1<<20); err != nil || string(got) != "part\x00" {
				t.Errorf("%q, %v", got, err)
			}
			if _, err := in.ReadAt(got, 512); err != nil || string(got) != "what " {
				t.Errorf("a read-only disk was written: %q, %v", got, err)
			}
		})
	}
}

func TestScriptFails(t *testing.T) {
	for kind, spec := range kinds(t) {
		t.Run(string(kind), func(t *testing.T) {
			spec.Name, spec.Script = "testing a failure", "echo before\nfalse\necho after\n"
			_, err := Run(t.Context(), spec)
			var failed *ScriptError
			if !errors.As(err, &failed) || failed.Code != 1 || failed.Output != "before\n" {
				t.Errorf("%#v", err)
			}
			spec.Script = "if then ("
			_, err = Run(t.Context(), spec)
			var crashed *CrashError
			if !errors.As(err, &crashed) || !strings.Contains(err.Error(), "unexpected") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestTimeout(t *testing.T) {
	for kind, spec := range kinds(t) {
		t.Run(string(kind), func(t *testing.T) {
			spec.Name, spec.Script, spec.Timeout = "testing the time limit", "sleep 100", 6*time.Second
			spec.Programs = []string{"sleep"}
			start := time.Now()
			_, err := Run(t.Context(), spec)
			if err == nil || !strings.Contains(err.Error(), "not done after 6s") || time.Since(start) > 20*time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		})
	}
}

// TestOrdinaryUser runs another test as an ordinary user.
func TestOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("the other tests run as an ordinary user already")
	}
	kinds(t)
	testenv.OrdinaryUser(t).RunAgain(t, "TestRunOnDisks", "IMGBUILD_TEST_KERNEL_ROOT="+os.Getenv("IMGBUILD_TEST_KERNEL_ROOT"))
}

const victim = "IMGBUILD_TEST_VICTIM"

// TestKilled kills a process that runs a helper kernel, without a warning, and looks for what stays behind.
func TestKilled(t *testing.T) {
	if kind := os.Getenv(victim); kind != "" {
		spec := kinds(t)[Kind(kind)]
		spec.Name, spec.Programs, spec.Script = "waiting to be killed", []string{"sleep"}, "sleep 300"
		spec.Disks = []Disk{{File: newDisk(t, 1<<20)}}
		_, err := Run(t.Context(), spec)
		t.Fatalf("it ended by itself: %v", err)
	}
	for kind := range kinds(t) {
		t.Run(string(kind), func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe", "-test.run", "^TestKilled$")
			cmd.Env = append(os.Environ(), victim+"="+string(kind))
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			most := 0
			for deadline := time.Now().Add(time.Minute); most < 2 && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
				most = max(most, len(session(t, cmd.Process.Pid)))
			}
			time.Sleep(2 * time.Second) // until it is at work
			if most < 2 {
				t.Errorf("no helper kernel has run")
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // killed, as it says
			for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
				left := session(t, cmd.Process.Pid)
				if len(left) == 0 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("left behind: %q", left)
				}
			}
		})
	}
}

// session returns the processes of a session that are not dead.
func session(t *testing.T, id int) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, e := range entries {
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // no process, or gone meanwhile
		}
		// The name in parentheses may hold anything; behind it come state, parent, group and session.
		_, rest, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ")
		fields := strings.Fields(rest)
		if len(fields) > 3 && fields[3] == strconv.Itoa(id) && fields[0] != "Z" {
			found = append(found, string(stat))
		}
	}
	return found
}

// TestVolumes makes what a disk builder or a reader of foreign disks may need of the device mapper and of RAIDs.
func TestVolumes(t *testing.T) {
	testenv.NeedPrograms(t, "cryptsetup", "lvm", "mdadm", "mke2fs", "e2fsck")
	for kind, spec := range kinds(t) {
		t.Run(string(kind), func(t *testing.T) {
			key, err := MemoryDisk("key", []byte("a secret of 23 letters."))
			if err != nil {
				t.Fatal(err)
			}
			defer key.Close()
			spec.Name, spec.Memory = "testing volumes", 768
			spec.Disks = []Disk{{File: newDisk(t, 64<<20)}, {File: newDisk(t, 16<<20)}, {File: newDisk(t, 16<<20)}, {File: key, ReadOnly: true}}
			spec.Programs = []string{"cryptsetup", "lvm", "mdadm", "mke2fs", "e2fsck", "mount", "umount", "cat"}
			spec.Modules = []string{"dm-mod", "dm-crypt", "xts", "aes_generic", "sha256_generic", "algif_skcipher", "md-mod", "raid1", "ext4"}
			spec.Script = `
export LVM_SYSTEM_DIR=/tmp/lvm
lvm() { command lvm "$@" --nolocking --devicesfile '' --config 'backup { archive = 0 backup = 0 } activation { udev_sync = 0 udev_rules = 0 monitoring = 0 } devices { obtain_device_list_from_udev = 0 }' >/dev/null 2>&1; }
cryptsetup luksFormat --batch-mode --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file $disk4 --keyfile-size 23 $disk1
cryptsetup open --key-file $disk4 --keyfile-size 23 $disk1 open
lvm vgcreate vg /dev/mapper/open
lvm lvcreate -y -W n -Z n -l 100%FREE -n root vg
mke2fs -q -t ext4 /dev/vg/root
mount -t ext4 /dev/vg/root /mnt
echo kept >/mnt/file
umount /mnt
lvm vgchange -a n vg
cryptsetup close open
cryptsetup open --key-file $disk4 --keyfile-size 23 $disk1 again
lvm vgchange -a y vg
e2fsck -fn /dev/vg/root >/dev/null 2>&1
mount -t ext4 -o ro /dev/vg/root /mnt
cat /mnt/file
umount /mnt
mdadm --create /dev/md0 --run --level=1 --raid-devices=2 $disk2 $disk3 >/dev/null 2>&1
cat /sys/block/md0/md/level
mdadm --stop /dev/md0 >/dev/null 2>&1
`
			out, err := Run(t.Context(), spec)
			if err != nil || out != "kept\nraid1\n" {
				t.Errorf("%q, %v", out, err)
			}
		})
	}
}
