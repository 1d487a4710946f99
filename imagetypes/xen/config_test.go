package xen

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/imagetypes/internal/imagetest"
)

// reader returns a function that tells what xl makes of a configuration.
func reader(t *testing.T) func(Config) imagetest.Guest {
	t.Helper()
	xl, file := imagetest.XL(t), filepath.Join(t.TempDir(), "guest.xenconfig")
	return func(c Config) imagetest.Guest {
		t.Helper()
		if err := os.WriteFile(file, []byte(c.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return xl(file)
	}
}

func TestConfig(t *testing.T) {
	got := Config{
		Comment: "first\nsecond\n", Name: "App", Type: PVH, Memory: 512, MaxMemory: 1024, CPUs: 2, MaxCPUs: 4, Kernel: "App.kernel", Ramdisk: "App.initrd", Cmdline: "quiet root=/dev/xvda1 rw",
		Disks: []string{Disk("raw", "xvda1", "App.ext4")}, NICs: []string{"mac=00:16:3e:00:00:01", ""}, Entries: []string{"cpus = \"0\"", `# a comment`},
	}.String()
	want := `# first
# second

name = "App"
type = "pvh"
memory = 512
maxmem = 1024
vcpus = 2
maxvcpus = 4
kernel = "App.kernel"
ramdisk = "App.initrd"
root = "/dev/xvda1"
extra = "quiet rw"
disk = [ "format=raw,vdev=xvda1,access=rw,target=App.ext4" ]
vif = [ "mac=00:16:3e:00:00:01", "" ]
cpus = "0"
# a comment
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestXLReadsIt is about xl's own view of all that a configuration may hold.
func TestXLReadsIt(t *testing.T) {
	got := reader(t)(Config{
		Name: "App", Type: HVM, Memory: 512, MaxMemory: 1024, CPUs: 2, MaxCPUs: 4, BIOS: "ovmf", Serial: "pty",
		Disks: []string{Disk("qcow2", "xvda", "a,b=c.qcow2"), "devtype=cdrom,vdev=hdc,access=ro,target="},
		NICs:  []string{"mac=00:16:3e:00:00:01,bridge=br0,model=e1000", "script=vif-nat", ""},
	})
	var want imagetest.Guest
	want.Info.Type, want.Info.Name = "hvm", "App"
	want.Build.CPUs, want.Build.Memory, want.Build.MaxMemory = 4, 512<<10, 1024<<10
	want.Build.HVM.BIOS, want.Build.HVM.Serial = "ovmf", "pty"
	if diff := cmp.Diff(want.Build, got.Build); diff != "" {
		t.Error(diff)
	}
	if len(got.Disks) != 2 || got.Disks[0].Target != "a,b=c.qcow2" || got.Disks[0].Format != "qcow2" || got.Disks[1].CDROM != 1 {
		t.Errorf("disks: %+v", got.Disks)
	}
	if len(got.NICs) != 3 || got.NICs[0].MAC != "00:16:3e:00:00:01" || got.NICs[0].Bridge != "br0" || got.NICs[0].Model != "e1000" || got.NICs[1].Script != "vif-nat" {
		t.Errorf("network cards: %+v", got.NICs)
	}
}

// TestEntriesReplace gives the user's lines the last word.
func TestEntriesReplace(t *testing.T) {
	got := reader(t)(Config{Name: "App", Type: PV, Memory: 512, Kernel: "k", Cmdline: "root=/dev/xvda1 rw", Entries: []string{"memory=300", "extra='debug'", ` on_crash = "preserve" `, "vif = [ 'bridge=br7',\n  'bridge=br8' ]"}})
	if got.Build.Cmdline != "root=/dev/xvda1 debug" || got.Build.Memory != 300<<10 || got.OnCrash != "preserve" || len(got.NICs) != 2 {
		t.Errorf("%+v", got)
	}
	got = reader(t)(Config{Name: "App", Type: PV, Memory: 512, Kernel: "k", Cmdline: "root=/dev/xvda1 rw", Entries: []string{"cmdline='debug'"}})
	if got.Build.Cmdline != "debug" {
		t.Errorf("%+v", got)
	}
}

// TestHostileText has xl read back what no name should contain.
func TestHostileText(t *testing.T) {
	const alphabet = "ab\"'\\\n\r\t #,=[]{}$`;\x01\x7f\u00e9%"
	letters := []rune(alphabet)
	names := []string{`"`, `\`, `\"`, "a\nkernel = \"evil\"", `a", memory = 1, x = "`, `\x41`, "'", "#", "\u00e9"}
	random := rand.New(rand.NewPCG(1, 2))
	for range 12 {
		var b strings.Builder
		b.WriteByte('x')
		for range random.IntN(30) {
			b.WriteRune(letters[random.IntN(len(letters))])
		}
		names = append(names, b.String())
	}
	read := reader(t)
	for _, name := range names {
		got := read(Config{Name: "n", Type: PV, Memory: 64, Kernel: "k", Cmdline: name})
		if got.Build.Cmdline != name || got.Build.Kernel != "k" || got.Build.Memory != 64<<10 {
			t.Errorf("xl reads %q for %q", got.Build.Cmdline, name)
		}
	}
}

func TestEntryKey(t *testing.T) {
	for line, want := range map[string]string{
		`type = "pvh"`: "type", " memory=1": "memory", "extra += 'x'": "extra", "foo": "", "= 3": "", "1a = 2": "", "a b = 1": "", "": "",
	} {
		if got, ok := EntryKey(line); got != want || ok != (want != "") {
			t.Errorf("%q sets %q", line, got)
		}
	}
}
