package emulation

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	userns.MustEnter()
	os.Exit(m.Run())
}

// TestPatterns compares the patterns with those that qemu's package brings for systemd.
func TestPatterns(t *testing.T) {
	format := regexp.MustCompile(`^:[^:]+:M::([^:]+):([^:]+):`)
	compared := 0
	for arch, m := range machines() {
		data, err := os.ReadFile("/usr/lib/binfmt.d/qemu-" + m.qemu + ".conf")
		if err != nil {
			continue
		}
		found := format.FindStringSubmatch(string(data))
		if found == nil {
			t.Errorf("%s: %q", arch, data)
			continue
		}
		magic, mask := m.pattern()
		theirs, theirMask := unescape(t, found[1]), unescape(t, found[2])
		// What they take for granted of the ABI is not asked here; all else must be the same where both ask.
		for i := range magic {
			if both := mask[i] & theirMask[i]; magic[i]&both != theirs[i]&both {
				t.Errorf("%s: byte %d is %x, theirs %x", arch, i, magic[i], theirs[i])
			}
		}
		compared++
	}
	if compared == 0 {
		testenv.Missing(t, "qemu-user-static")
	}
	t.Logf("%d compared", compared)
}

func unescape(t *testing.T, text string) []byte {
	t.Helper()
	plain, err := strconv.Unquote(`"` + text + `"`)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(plain)
}

func TestNative(t *testing.T) {
	for _, test := range []struct {
		host, arch string
		want       bool
	}{{"amd64", "x86_64", true}, {"amd64", "i686", true}, {"amd64", "aarch64", false}, {"arm64", "aarch64", true}, {"arm64", "armv7l", false}, {"ppc64le", "ppc64le", true}, {"mips64le", "mips64el", true}} {
		if got := native(test.host, test.arch); got != test.want {
			t.Errorf("%s on %s: %v", test.arch, test.host, got)
		}
	}
}

// TestRegistered reads what a kernel tells of the formats that it knows.
func TestRegistered(t *testing.T) {
	foreign := foreignArch()
	known := machines()[foreign]
	magic, _ := known.pattern()
	write := func(dir, name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	hex := func(data []byte) string {
		var text strings.Builder
		for _, b := range data {
			text.WriteString(strconv.FormatUint(uint64(b>>4), 16) + strconv.FormatUint(uint64(b&15), 16))
		}
		return text.String()
	}
	qemu := filepath.Join(t.TempDir(), "qemu")
	write(filepath.Dir(qemu), "qemu", "x")
	for _, test := range []struct {
		name, status, entry string
		registered          bool
	}{
		{"as Debian does", "enabled\n", "enabled\ninterpreter /usr/bin/qemu\nflags: OCF\noffset 0\nmagic " + hex(magic) + "\nmask ff\n", true},
		{"not opened", "enabled\n", "enabled\ninterpreter /usr/bin/qemu\nflags: OC\noffset 0\nmagic " + hex(magic) + "\nmask ff\n", false},
		{"switched off", "enabled\n", "disabled\ninterpreter /usr/bin/qemu\nflags: OCF\noffset 0\nmagic " + hex(magic) + "\nmask ff\n", false},
		{"all switched off", "disabled\n", "enabled\nflags: F\nmagic " + hex(magic) + "\n", false},
		{"another one", "enabled\n", "enabled\nflags: F\nmagic 7f454c46\n", false},
	} {
		dir := t.TempDir()
		write(dir, "status", test.status)
		write(dir, "qemu-other", test.entry)
		got, err := Machine{Formats: dir, Find: func(string) (string, error) { return qemu, nil }}.Emulator(foreign)
		if err != nil || (got == nil) != test.registered {
			t.Errorf("%s: %+v, %v", test.name, got, err)
		}
	}
}

func foreignArch() string {
	if runtime.GOARCH == "arm64" {
		return "x86_64"
	}
	return "aarch64"
}

func TestNoEmulator(t *testing.T) {
	_, err := Machine{Formats: t.TempDir(), Find: func(name string) (string, error) { return "", &command.MissingError{Program: name} }}.Emulator(foreignArch())
	var missing *command.MissingError
	if !errors.As(err, &missing) || missing.Program != "qemu-"+foreignArch()+"-static" || !strings.Contains(err.Error(), foreignArch()) {
		t.Errorf("%v", err)
	}
	if e, err := (Machine{}).Emulator(""); e != nil || err != nil {
		t.Errorf("no architecture: %v, %v", e, err)
	}
	if _, err := (Machine{}).Emulator("pdp11"); err == nil || !strings.Contains(err.Error(), "pdp11") {
		t.Errorf("%v", err)
	}
}

// hello is a program for 64-bit ARM that prints "hello\n": a head of ELF, one segment, and instructions.
func hello() []byte {
	const base, head = 0x400000, 64 + 56
	var b bytes.Buffer
	put := func(values ...any) {
		for _, v := range values {
			_ = binary.Write(&b, binary.LittleEndian, v) // memory
		}
	}
	b.WriteString("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	put(uint16(2), uint16(183), uint32(1), uint64(base+head), uint64(64), uint64(0), uint32(0), uint16(64), uint16(56), uint16(1), uint16(0), uint16(0), uint16(0))
	put(uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), uint64(head+38), uint64(head+38), uint64(0x1000))
	// mov x0, #1; adr x1, text; mov x2, #6; mov x8, #64 (write); svc #0; mov x0, #0; mov x8, #93 (exit); svc #0
	put([]uint32{0xd2800020, 0x100000e1, 0xd28000c2, 0xd2800808, 0xd4000001, 0xd2800000, 0xd2800ba8, 0xd4000001})
	b.WriteString("hello\n")
	return b.Bytes()
}

// TestForeignProgram runs a program of another architecture: in a root tree, and from this machine in a tree that it changes its root directory to.
func TestForeignProgram(t *testing.T) { testenv.AsBoth(t, testForeignProgram) }

func testForeignProgram(t *testing.T) {
	if runtime.GOARCH == "arm64" {
		t.Skip("the program is not foreign here")
	}
	testenv.NeedProgram(t, "qemu-aarch64-static")
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "hello"), hello(), 0o755); err != nil {
		t.Fatal(err)
	}
	emulator, err := Machine{}.Emulator("aarch64")
	if err != nil {
		t.Fatal(err)
	}
	for name, spec := range map[string]sandbox.Spec{
		"inside": {Root: root, Args: []string{"/hello"}},
		"chroot": {Root: "/", ReadOnlyRoot: true, Target: root, Args: []string{"chroot", sandbox.TargetDir, "/hello"}},
	} {
		var out bytes.Buffer
		spec.Emulator, spec.Stdout, spec.Stderr = emulator, &out, &out
		err := Explain(sandbox.Run(t.Context(), spec), "aarch64")
		if errors.Is(err, sandbox.ErrNoRegistration) {
			testenv.Missing(t, "a kernel that lets sandboxes have formats of their own: %v", err)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff("hello\n", out.String()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if err := sandbox.Run(t.Context(), sandbox.Spec{Root: root, Args: []string{"/hello"}}); emulator != nil && err == nil {
		t.Error("the emulator is registered for everyone")
	}
	spec := sandbox.Spec{Root: root, Args: []string{"/hello"}, Emulator: &sandbox.Emulator{Name: "x", Program: "/usr/bin/env", Magic: []byte("x"), Mask: []byte("\xff\xff")}}
	if err := Explain(sandbox.Run(t.Context(), spec), "aarch64"); !errors.Is(err, sandbox.ErrNoRegistration) || !strings.Contains(err.Error(), "systemd-binfmt") {
		t.Errorf("a registration that can't be made: %v", err)
	}
}
