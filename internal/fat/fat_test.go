package fat

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

func files() fstest.MapFS {
	return fstest.MapFS{
		"EFI/BOOT/BOOTX64.EFI":               {Data: bytes.Repeat([]byte("efi"), 100000)},
		"EFI/debian/grub.cfg":                {Data: []byte("configfile\n")},
		"a file with a long name in it.text": {Data: []byte("x")},
		"empty":                              {},
	}
}

func TestWrite(t *testing.T) {
	testenv.NeedPrograms(t, append(Programs(), "fsck.fat", "mtype", "minfo")...)
	for _, bits := range []int{0, 12, 16, 32} {
		spec := Spec{Size: 4 << 20, Bits: bits, Label: "EFI", ID: 0x1234abcd, Time: time.Unix(1700000000, 0)}
		if bits == 16 {
			spec.Size = 20 << 20
		}
		if bits == 32 {
			spec.Size = 40 << 20
		}
		var images [][]byte
		for range 2 {
			name := filepath.Join(t.TempDir(), "esp.img")
			if err := Write(t.Context(), name, spec, files(), t.TempDir()); err != nil {
				t.Fatal(err)
			}
			testenv.Run(t, "fsck.fat", "-n", name)
			for file, want := range files() {
				got := testenv.Run(t, "mtype", "-i", name, "::"+file)
				if got != string(want.Data) {
					t.Errorf("FAT%d: %s has %d bytes, want %d", bits, file, len(got), len(want.Data))
				}
			}
			if out := testenv.Run(t, "minfo", "-i", name, "::"); !strings.Contains(strings.ToLower(out), "1234abcd") {
				t.Errorf("the volume ID is not 1234ABCD: %s", out)
			}
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			images = append(images, data)
			if bits == 0 && len(images) == 1 {
				time.Sleep(2100 * time.Millisecond) // the time stamps of FAT count two seconds
			}
		}
		if !bytes.Equal(images[0], images[1]) {
			t.Errorf("FAT%d: two runs gave different bytes", bits)
		}
	}
}

func TestLargeSectors(t *testing.T) {
	testenv.NeedPrograms(t, append(Programs(), "fsck.fat", "mtype")...)
	for bits, size := range map[int]int64{16: 20 << 20, 32: 300 << 20} {
		name := filepath.Join(t.TempDir(), "esp.img")
		if err := Write(t.Context(), name, Spec{Size: size, Bits: bits, SectorSize: 4096, Time: time.Unix(0, 0)}, files(), t.TempDir()); err != nil {
			t.Fatal(err)
		}
		testenv.Run(t, "fsck.fat", "-n", name)
		if got := testenv.Run(t, "mtype", "-i", name, "::EFI/debian/grub.cfg"); got != "configfile\n" {
			t.Errorf("FAT%d: grub.cfg is %q", bits, got)
		}
	}
}

func TestWriteTooMuch(t *testing.T) {
	testenv.NeedPrograms(t, Programs()...)
	spec := Spec{Size: 1 << 20, Time: time.Unix(0, 0)}
	big := fstest.MapFS{"big": {Data: make([]byte, 2<<20)}}
	if err := Write(t.Context(), filepath.Join(t.TempDir(), "x"), spec, big, t.TempDir()); err == nil {
		t.Error("2 MiB fit into 1 MiB")
	}
}

func TestUUID(t *testing.T) {
	if got := (Spec{ID: 0x0a0bff01}).UUID(); got != "0A0B-FF01" {
		t.Errorf("got %s", got)
	}
}
