package boot

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes"
	"github.com/imgbuild/imgbuild/internal/qemu"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers/layerstest"
)

// file writes a file that begins with the given bytes at the given places.
func file(t *testing.T, name string, size int, parts map[int]string) string {
	t.Helper()
	data := make([]byte, size)
	for at, text := range parts {
		copy(data[at:], text)
	}
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// isoParts is an ISO image whose boot catalog begins with an entry for the platform.
func isoParts(platform byte) map[int]string {
	var at [4]byte
	binary.LittleEndian.PutUint32(at[:], 19)
	return map[int]string{isoDescriptors: "\x01CD001", isoCatalog: string(at[:]), 19 * isoSector: string([]byte{1, platform})}
}

func TestInspect(t *testing.T) {
	const signature = "\x55\xaa"
	gpt := string(espType[:])
	pipe := filepath.Join(t.TempDir(), "pipe") // opening one waits for somebody to write
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file     string
		opts     Options
		firmware qemu.Firmware
		format   string
		arch     string
		err      string
	}{
		"BIOS disk":       {file: file(t, "a", 4096, map[int]string{0: "\xeb", 510: signature}), firmware: qemu.BIOS, format: "raw"},
		"both":            {file: file(t, "a", 4096, map[int]string{0: "\xeb", 510: signature, 1024: gpt}), firmware: qemu.BIOS, format: "raw"},
		"as asked":        {file: file(t, "a", 4096, map[int]string{0: "\xeb", 510: signature, 1024: gpt}), opts: Options{Firmware: "uefi"}, firmware: qemu.UEFI, format: "raw"},
		"GPT":             {file: file(t, "a", 4096, map[int]string{510: signature, 1024: gpt}), firmware: qemu.UEFI, format: "raw"},
		"MBR with ESP":    {file: file(t, "a", 4096, map[int]string{510: signature, 466: "\xef"}), firmware: qemu.UEFI, format: "raw"},
		"arm":             {file: file(t, "x.aarch64-1.raw", 4096, map[int]string{510: signature}), firmware: qemu.UEFI, format: "raw", arch: "aarch64"},
		"arm by BIOS":     {file: file(t, "x.aarch64-1.raw", 4096, map[int]string{510: signature}), opts: Options{Firmware: "bios"}, err: "bios is for x86_64"},
		"arm, secured":    {file: file(t, "a", 4096, map[int]string{510: signature}), opts: Options{Firmware: "secureboot", Arch: "aarch64"}, err: "secureboot is for x86_64"},
		"data":            {file: file(t, "a", 4096, map[int]string{510: signature}), err: "neither boot code"},
		"nothing":         {file: file(t, "a", 4096, nil), err: "it is no disk"},
		"short":           {file: file(t, "a", 3, nil), err: "it is no disk"},
		"pipe":            {file: pipe, err: "neither a file, a block device nor a directory"},
		"ISO":             {file: file(t, "a", 50000, isoParts(0)), firmware: qemu.BIOS},
		"ISO for UEFI":    {file: file(t, "a", 50000, isoParts(0xef)), firmware: qemu.UEFI},
		"ISO as disk":     {file: file(t, "a", 50000, isoParts(0)), opts: Options{AsDisk: true}, firmware: qemu.BIOS, format: "raw"},
		"no boot catalog": {file: file(t, "a", 50000, map[int]string{isoDescriptors: "\x01CD001"}), err: "boot catalog"},
	} {
		c.opts.Image = c.file
		m, err := inspect(t.Context(), c.opts)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error is %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if m.spec.Firmware != c.firmware || c.arch != "" && m.spec.Arch != c.arch {
			t.Errorf("%s: firmware %s on %s", name, m.spec.Firmware, m.spec.Arch)
		}
		if len(m.spec.Disks) > 0 != (c.format != "") || c.format != "" && m.spec.Disks[0].Format != c.format || (m.spec.CDROM != "") != (c.format == "") {
			t.Errorf("%s: %+v", name, m.spec)
		}
		if err := m.close(); err != nil {
			t.Error(err)
		}
	}
}

func TestFormats(t *testing.T) {
	testenv.NeedProgram(t, "qemu-img")
	raw := file(t, "disk", 1<<20, map[int]string{0: "\xeb", 510: "\x55\xaa"})
	for _, format := range []string{"qcow2", "vmdk", "vhdx", "vdi", "vpc"} {
		image := filepath.Join(t.TempDir(), "image")
		testenv.Run(t, "qemu-img", "convert", "-f", "raw", "-O", format, raw, image)
		m, err := inspect(t.Context(), Options{Image: image})
		if err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		if m.spec.Disks[0].Format != format || m.spec.Firmware != qemu.BIOS {
			t.Errorf("%s: %+v", format, m.spec)
		}
		if err := m.close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(m.dir); err == nil {
			t.Errorf("%s: temporary files are left", format)
		}
	}
}

// TestForeignDisk refuses a disk that shows a file of this machine.
func TestForeignDisk(t *testing.T) {
	testenv.NeedProgram(t, "qemu-img")
	secret, image := file(t, "secret", 4096, map[int]string{510: "\x55\xaa"}), filepath.Join(t.TempDir(), "image")
	testenv.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", secret, image)
	if _, err := inspect(t.Context(), Options{Image: image}); err == nil || !strings.Contains(err.Error(), "only a part of another one") {
		t.Errorf("error is %v", err)
	}
}

// pack writes files as a tar archive, compressed by gzip if the name ends so.
func pack(t *testing.T, name string, files map[string]string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	dir := t.TempDir()
	args := []string{"-c", "--auto-compress", "--sparse", "-f", name, "-C", dir}
	for to, from := range files {
		testenv.Run(t, "cp", from, filepath.Join(dir, to))
		args = append(args, to)
	}
	testenv.Run(t, "tar", args...)
	return name
}

// TestShells boots what is compressed or in an archive.
func TestShells(t *testing.T) {
	testenv.NeedPrograms(t, "qemu-img", "xz", "gzip", "zstd", "tar", "cp")
	raw := file(t, "disk", 1<<20, map[int]string{0: "\xeb", 510: "\x55\xaa"})
	text := file(t, "text", 2, map[int]string{0: "{}"})
	list := file(t, "list", 2, map[int]string{0: "[]"})
	kernel, initrd, line := file(t, "kernel", 2, nil), file(t, "initrd", 2, nil), file(t, "append", 8, map[int]string{0: "root=x\n "})
	for _, args := range [][]string{{"xz", "--keep"}, {"gzip", "--keep"}, {"zstd", "-q", "--keep"}} {
		testenv.Run(t, args[0], append(args[1:], raw)...)
	}
	cut, greedy := file(t, "cut.gz", 0, nil), file(t, "greedy.zst", 11, map[int]string{0: "\x28\xb5\x2f\xfd\x00\xa8\x0b\x00\x00x"}) // a window of 2 GiB
	testenv.Run(t, "sh", "-c", `head -c $(($(stat -c %s "$0.gz") - 9)) "$0.gz" > "$1"`, raw, cut)
	vmdk := filepath.Join(t.TempDir(), "vmdk")
	testenv.Run(t, "qemu-img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, vmdk)
	for name, c := range map[string]struct{ image, format, err string }{
		"xz":          {image: raw + ".xz", format: "raw"},
		"gzip":        {image: raw + ".gz", format: "raw"},
		"zstd":        {image: raw + ".zst", format: "raw"},
		"gce":         {image: pack(t, "gce.tar.gz", map[string]string{"disk.raw": raw, "manifest.json": text}), format: "raw"},
		"ova":         {image: pack(t, "machine.ova", map[string]string{"a.ovf": text, "a-disk1.vmdk": vmdk}), format: "vmdk"},
		"libvirt":     {image: pack(t, "box.tar.gz", map[string]string{"metadata.json": text, "box.img": raw}), format: "raw"},
		"virtualbox":  {image: pack(t, "box.tar", map[string]string{"metadata.json": text, "box.ovf": text, "box.vmdk": vmdk}), format: "vmdk"},
		"kis":         {image: pack(t, "kis.tar.xz", map[string]string{"a-1.kernel": kernel, "a.initrd": initrd, "a": raw, "a.append": line}), format: "raw"},
		"kis squash":  {image: pack(t, "kis.tar", map[string]string{"a-1.kernel": kernel, "a.initrd": initrd, "a": raw, "a.append": file(t, "none", 0, nil)}), format: "raw"},
		"kis.xz":      {image: pack(t, "kis.tar", map[string]string{"a-1.kernel": kernel, "a.initrd": initrd, "a.xz": raw + ".xz", "a.append": line}), format: "raw"},
		"docker":      {image: pack(t, "docker.tar", map[string]string{"manifest.json": list, "layer.tar.gz": text}), err: "it is a container"},
		"oci":         {image: pack(t, "oci.tar", map[string]string{"oci-layout": text}), err: "it is a container"},
		"a name":      {image: "debian:12", err: "if it is a container"},
		"no file":     {image: "missing.iso", err: "open missing.iso: no such file or directory$"},
		"cut off":     {image: cut, err: "decompressing it: unexpected EOF"},
		"greedy":      {image: greedy, err: "asks for more than 256 MiB of memory"},
		"other files": {image: pack(t, "other.tar", map[string]string{"something": text}), err: "no kernel"},
		"nothing":     {image: t.TempDir(), err: "no kernel"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			m, err := inspect(t.Context(), Options{Image: c.image})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error()+"$", c.err) {
					t.Errorf("error is %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(m.spec.Disks) != 1 || m.spec.Disks[0].Format != c.format || m.spec.Firmware != qemu.BIOS {
				t.Errorf("%+v", m.spec)
			}
			told := "root=x console=ttyS0"
			if name == "kis squash" {
				told = "root=/dev/vda console=ttyS0"
			}
			if (m.spec.Kernel != "") != strings.HasPrefix(name, "kis") || m.spec.Kernel != "" && m.spec.Append != told {
				t.Errorf("%+v", m.spec)
			}
			if c.format == "raw" {
				testenv.Run(t, "cmp", raw, m.spec.Disks[0].File)
			}
			if err := m.close(); err != nil {
				t.Error(err)
			}
			if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
	if _, err := inspect(t.Context(), Options{Image: raw + ".xz", Writable: true}); err == nil || !strings.Contains(err.Error(), "unpack it") {
		t.Errorf("error is %v", err)
	}
}

// TestTargetDirectory boots what a build has left.
func TestTargetDirectory(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"kiwi.result.json": `{}`, "b.aarch64-1.raw": "\xeb", "a.aarch64-1.iso": ""} {
		data := make([]byte, 4096)
		copy(data, text)
		if name == "kiwi.result.json" {
			data = []byte(text)
		} else {
			copy(data[510:], "\x55\xaa")
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const disk, live = `"disk_image": {"filename": "/elsewhere/b.aarch64-1.raw"}`, `"live_image": {"filename": "a.aarch64-1.iso"}`
	for list, want := range map[string]string{"{}": "nothing of what was built there boots", "{" + disk + "}": "", "{" + disk + "," + live + "}": "choose one of"} {
		if err := os.WriteFile(filepath.Join(dir, "kiwi.result.json"), []byte(list), 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := inspect(t.Context(), Options{Image: dir})
		if want == "" {
			if err != nil || m.spec.Arch != "aarch64" || m.spec.Disks[0].File != filepath.Join(dir, "b.aarch64-1.raw") {
				t.Errorf("%+v, %v", m, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", list, err)
		}
	}
}

// TestOptions makes no sense of some, whatever the image is.
func TestOptions(t *testing.T) {
	for _, o := range []Options{{Firmware: "coreboot"}, {Memory: -1}, {CPUs: -1}, {Timeout: -1}, {Forward: []string{"80"}}} {
		o.Image = "missing"
		var wrong *OptionError
		if _, err := Run(t.Context(), o); !errors.As(err, &wrong) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestParseForward(t *testing.T) {
	got, err := parseForward([]string{"8080:80", "2222:22"})
	if err != nil || !slices.Equal(got, []qemu.Forward{{Host: 8080, Guest: 80}, {Host: 2222, Guest: 22}}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "80", "80:", "0:80", "80:70000", "a:b", "1:2:3", "8080:80,hostfwd=tcp::1-:2"} {
		if _, err := parseForward([]string{bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// system builds a kernel-initrd-system of a Debian that can boot.
func system(t *testing.T) string {
	t.Helper()
	doc, err := description.LoadFS(fstest.MapFS{"config.xml": {Data: []byte(`<image schemaversion="7.6" name="kis">
  <description type="system"><author>A</author><contact>a@example.org</contact><specification>test</specification></description>
  <preferences><version>1.0.0</version><packagemanager>apt</packagemanager><type image="kis" filesystem="ext4"/></preferences>
  <repository type="apt-deb"><source path="http://deb.debian.org/debian"/></repository>
  <packages type="image"><package name="bash"/></packages>
</image>`)}}, "", description.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	resolved, err := doc.Resolve(description.Selection{Arch: "x86_64"})
	if err != nil {
		t.Fatal(err)
	}
	results, err := imagetypes.Create(t.Context(), imagetypes.CreateOptions{Tree: layerstest.Tree(t, layerstest.VM), Description: resolved, TargetDir: t.TempDir(), Repro: repro.New(time.Unix(1700000000, 0))})
	if err != nil {
		t.Fatal(err)
	}
	return results.Files[0].Path
}

func TestBootAndRun(t *testing.T) {
	testenv.NeedPrograms(t, "qemu-system-x86_64", "xz", "mke2fs")
	testenv.NeedRealRoot(t) // once is enough: nothing here asks who it is
	var console strings.Builder
	result, err := Run(t.Context(), Options{
		Image: system(t), Timeout: 15 * time.Minute, Expect: []string{"login:"}, Run: []string{"findmnt -n -o FSTYPE /", "echo one; exit_code() { return 7; }; exit_code"}, User: "root", Password: "linux", Console: &console,
	})
	var failed *CommandError
	if !errors.As(err, &failed) || failed.Code != 7 || !strings.Contains(failed.Output, "one") {
		t.Fatalf("error is %v", err)
	}
	if len(result.Commands) != 2 || !strings.Contains(result.Commands[0].Output, "ext4") || result.Commands[0].Code != 0 {
		t.Errorf("the commands did %+v", result.Commands)
	}
	if !strings.Contains(console.String(), "login:") {
		t.Error("the console was not shown")
	}
}

// TestBootOverTheNetwork has a machine load kernel and initrd of a kernel-initrd-system from a boot server, by TFTP and iPXE. The system is its disk.
func TestBootOverTheNetwork(t *testing.T) {
	if os.Getenv("IMGBUILD_TEST_BOOT") != "all" {
		t.Skip("IMGBUILD_TEST_BOOT=all runs this test")
	}
	testenv.NeedPrograms(t, "qemu-system-x86_64", "xz", "mke2fs")
	testenv.NeedRealRoot(t)
	m, err := inspect(t.Context(), Options{Image: system(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	dir := filepath.Dir(m.spec.Kernel)
	script := fmt.Sprintf("#!ipxe\nkernel %s %s from=network\ninitrd %s\nboot\n", filepath.Base(m.spec.Kernel), m.spec.Append, filepath.Base(m.spec.Initrd))
	if err := os.WriteFile(filepath.Join(dir, "boot.ipxe"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := qemu.Spec{Firmware: qemu.BIOS, Disks: m.spec.Disks, Arguments: []string{
		"-netdev", "user,id=lan,tftp=" + dir + ",bootfile=boot.ipxe", "-device", "virtio-net-pci,netdev=lan,bootindex=0",
	}}
	machine, err := qemu.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	defer machine.Close()
	if err := machine.Login(t.Context(), "root", "linux", 20*time.Minute); err != nil {
		t.Fatal(err)
	}
	output, code, err := machine.Run(t.Context(), "cat /proc/cmdline; findmnt -n -o FSTYPE /", 5*time.Minute)
	if err != nil || code != 0 || !strings.Contains(output, "from=network") || !strings.Contains(output, "ext4") {
		t.Errorf("%q, %d, %v", output, code, err)
	}
}

func TestRemedy(t *testing.T) {
	wrong := fmt.Errorf("logging in as root: %w", qemu.ErrLogin)
	for want, got := range map[string]string{
		"--password-file": remedy(wrong, "login:", "x86_64", ""),
		"console=ttyAMA0": remedy(&qemu.TimeoutError{}, "UEFI firmware", "aarch64", ""),
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q does not say %s", got, want)
		}
	}
	for _, got := range []string{remedy(wrong, "", "", "secret"), remedy(&qemu.TimeoutError{}, "[    0.000000] Linux version 6.1", "", ""), remedy(ErrUnknown, "", "", "")} {
		if got != "" {
			t.Errorf("%q is said too", got)
		}
	}
}

func TestWhatDoesNotComeIsTold(t *testing.T) {
	testenv.NeedProgram(t, "qemu-system-x86_64")
	disk := file(t, "disk", 1<<20, map[int]string{0: "\xf4", 510: "\x55\xaa"}) // the instruction that halts
	_, err := Run(t.Context(), Options{Image: disk, Expect: []string{"login:"}, Timeout: 3 * time.Second})
	if err == nil || !strings.Contains(err.Error(), "login:") || !strings.Contains(err.Error(), "3s") || !strings.Contains(err.Error(), "must be told console=ttyS0") {
		t.Errorf("error is %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := Run(ctx, Options{Image: disk}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
}
