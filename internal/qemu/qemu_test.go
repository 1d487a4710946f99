package qemu

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// bootSector is a BIOS boot sector that echoes what it reads from the serial port: mov dx,0x3fd; wait for input (bit 0); read 0x3f8; write it
// back; repeat. It starts by sending '>'.
func bootSector() []byte {
	code := []byte{
		0xfa,             // cli
		0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0xb0, '>', // mov al, '>'
		0xee,             // out dx, al
		0xba, 0xfd, 0x03, // wait: mov dx, 0x3fd
		0xec,       // in al, dx
		0xa8, 0x01, // test al, 1
		0x74, 0xf8, // jz wait
		0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0xec,       // in al, dx
		0xee,       // out dx, al
		0xeb, 0xf1, // jmp wait
	}
	sector := make([]byte, 1<<20)
	copy(sector, code)
	sector[510], sector[511] = 0x55, 0xaa
	return sector
}

func start(t *testing.T, spec Spec) *Machine {
	t.Helper()
	testenv.NeedPrograms(t, "qemu-system-x86_64")
	disk := filepath.Join(t.TempDir(), "disk, with a comma.raw")
	if err := os.WriteFile(disk, bootSector(), 0o600); err != nil {
		t.Fatal(err)
	}
	spec.Disks = []Disk{{File: disk, Format: "raw"}}
	spec.Memory, spec.CPUs = 64, 1
	m, err := Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestExpectAndSend(t *testing.T) {
	var copied bytes.Buffer
	m := start(t, Spec{Console: &copied, Accelerator: acceleratorTCG})
	if err := m.ExpectText(t.Context(), ">", time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := m.Send("abc17def"); err != nil {
		t.Fatal(err)
	}
	got, err := m.Expect(t.Context(), regexp.MustCompile(`([0-9]+)d`), time.Minute)
	if err != nil || len(got) != 2 || got[1] != "17" {
		t.Fatalf("got %q, %v", got, err)
	}
	_, err = m.Expect(t.Context(), regexp.MustCompile(`17`), 100*time.Millisecond)
	var timeout *TimeoutError
	if !errors.As(err, &timeout) || !strings.Contains(err.Error(), "abc17d") {
		t.Errorf("what was matched once matched again, or the error is bad: %v", err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(copied.String(), ">abc17") {
		t.Errorf("the copy of the console is %q", copied.String())
	}
}

func TestCancelEndsTheMachine(t *testing.T) {
	testenv.NeedPrograms(t, "qemu-system-x86_64")
	ctx, cancel := context.WithCancel(t.Context())
	m, err := Start(ctx, Spec{Memory: 64, CPUs: 1, Accelerator: acceleratorTCG})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	cancel()
	if _, err := m.Expect(t.Context(), regexp.MustCompile(`never`), time.Minute); !errors.Is(err, ErrEnded) {
		t.Errorf("error is %v", err)
	}
}

func TestAMachineThatCannotStartSaysWhy(t *testing.T) {
	testenv.NeedPrograms(t, "qemu-system-x86_64")
	m, err := Start(t.Context(), Spec{Disks: []Disk{{File: "/no/such/disk", Format: "raw"}}, Accelerator: acceleratorTCG})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := m.Expect(t.Context(), regexp.MustCompile(`x`), time.Minute); err == nil || !strings.Contains(err.Error(), "/no/such/disk") {
		t.Errorf("error is %v", err)
	}
	if _, err := Start(t.Context(), Spec{Arch: "vax"}); err == nil {
		t.Error("there is a virtual machine for a VAX")
	}
}

func TestAcceleratorAnswersSoon(t *testing.T) {
	testenv.NeedPrograms(t, "qemu-system-x86_64")
	begin := time.Now()
	got := Accelerator(t.Context(), "x86_64")
	if took := time.Since(begin); took > probeLimit+20*time.Second {
		t.Errorf("it took %v", took)
	}
	if got != acceleratorKVM && got != acceleratorTCG {
		t.Errorf("got %q", got)
	}
	if got := Accelerator(t.Context(), "s390x"); got != acceleratorTCG {
		t.Errorf("a foreign architecture runs by %q", got)
	}
}

func TestRunNeedsLogin(t *testing.T) {
	m := &Machine{}
	if _, _, err := m.Run(t.Context(), "true", time.Second); err == nil {
		t.Error("a command ran with nobody logged in")
	}
	if err := m.Shutdown(t.Context(), time.Second); err == nil {
		t.Error("a shutdown without a login")
	}
}

// writingSector is a BIOS boot sector that writes itself to the second sector of its disk and then sends '>'.
func writingSector() []byte {
	code := []byte{
		0x31, 0xf6, 0x8e, 0xc6, // xor si, si; mov es, si
		0xbb, 0x00, 0x7c, // mov bx, 0x7c00: where the BIOS has put it
		0xb9, 0x02, 0x00, 0xb6, 0x00, // mov cx, 2; mov dh, 0: cylinder 0, sector 2, head 0; dl is the disk it comes from
		0xb8, 0x01, 0x03, 0xcd, 0x13, // mov ax, 0x0301; int 0x13: write one sector
		0xba, 0xf8, 0x03, 0xb0, '>', 0xee, // mov dx, 0x3f8; mov al, '>'; out dx, al
		0xf4, 0xeb, 0xfd, // hlt; jmp to it
	}
	disk := make([]byte, 1<<20)
	copy(disk, code)
	disk[510], disk[511] = 0x55, 0xaa
	return disk
}

// TestDisksAreUnchanged lets a machine write to its disk: the file changes only where that was asked for.
func TestDisksAreUnchanged(t *testing.T) {
	testenv.NeedPrograms(t, "qemu-system-x86_64")
	for _, writable := range []bool{false, true} {
		disk := filepath.Join(t.TempDir(), "disk")
		before := writingSector()
		if err := os.WriteFile(disk, before, 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := Start(t.Context(), Spec{Disks: []Disk{{File: disk, Format: "raw", Writable: writable}}, Memory: 64, CPUs: 1, Accelerator: acceleratorTCG})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.ExpectText(t.Context(), ">", time.Minute); err != nil {
			t.Error(err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		after, err := os.ReadFile(disk)
		if err != nil || !bytes.Equal(after[:512], before[:512]) || bytes.Equal(after, before) == writable {
			t.Errorf("writable %v: the disk is %x, %v", writable, after[512:530], err)
		}
	}
}

func TestNetworkCard(t *testing.T) {
	for want, forward := range map[string][]Forward{
		"none": nil,
		"user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=tcp:127.0.0.1:2222-:22": {{8080, 80}, {2222, 22}},
	} {
		if got := nic(forward); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
}

// TestCDROM gives each kind of machine a drive that it can have.
func TestCDROM(t *testing.T) {
	for _, arch := range []string{"x86_64", "aarch64"} {
		testenv.NeedProgram(t, "qemu-system-"+arch)
		m, err := Start(t.Context(), Spec{Arch: arch, CDROM: os.DevNull, Accelerator: acceleratorTCG, Arguments: []string{"-S"}})
		if fw := (*FirmwareError)(nil); errors.As(err, &fw) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Wait(t.Context(), 2*time.Second); !errors.As(err, new(*TimeoutError)) {
			t.Errorf("%s: %v", arch, err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestNobodyReads gives up typing into a machine that does not read.
func TestNobodyReads(t *testing.T) {
	keyboard, input, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer keyboard.Close()
	defer input.Close()
	m := &Machine{console: newConsole(nil), input: input, loggedIn: true}
	if _, _, err := m.Run(t.Context(), strings.Repeat("x", 1<<20), 100*time.Millisecond); !errors.As(err, new(*TimeoutError)) {
		t.Errorf("error is %v", err)
	}
}
