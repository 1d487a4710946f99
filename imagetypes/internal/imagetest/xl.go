package imagetest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// withoutXen stands in for the calls of a hypervisor that xl makes before it reads a configuration, so that it does so on a machine without one.
const withoutXen = `
static int one[64];
void *xc_interface_open(void *a, void *b, unsigned c) { return one; }
int xc_interface_close(void *a) { return 0; }
int xc_version(void *a, int b, void *c) { return 0; }
void *xs_open(unsigned long a) { return one; }
void xs_close(void *a) {}
int libxl_get_max_cpus(void *a) { return 8; }
int libxl_get_physinfo(void *a, void *b) { return 0; }
`

// Guest is what xl understands of a guest's configuration.
type Guest struct {
	Info struct {
		Type string
		Name string
	} `json:"c_info"`
	Build struct {
		CPUs       int    `json:"max_vcpus"`
		Memory     int    `json:"target_memkb"`
		MaxMemory  int    `json:"max_memkb"`
		Kernel     string `json:"kernel"`
		Ramdisk    string `json:"ramdisk"`
		Cmdline    string `json:"cmdline"`
		Bootloader string `json:"bootloader"`
		HVM        struct {
			Serial string `json:"serial"`
			BIOS   string `json:"bios"`
		} `json:"type.hvm"`
	} `json:"b_info"`
	Disks []struct {
		Target    string `json:"pdev_path"`
		Device    string `json:"vdev"`
		Format    string
		CDROM     int `json:"is_cdrom"`
		ReadWrite int
	}
	NICs []struct {
		MAC    string
		Bridge string
		Model  string
		Script string
	}
	OnCrash string `json:"on_crash"`
}

// XenProgram returns the path of one of Xen's own programs. The test is skipped without it.
func XenProgram(t testing.TB, name string) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/xen-*/bin/" + name)
	if err != nil || len(found) == 0 {
		testenv.Missing(t, "%s of the package xen-utils is not installed", name)
	}
	return found[len(found)-1]
}

// XL returns a function that has the real xl read a configuration, as in xl -N create. The test is skipped without xl.
func XL(t testing.TB) func(file string) Guest {
	t.Helper()
	xl := XenProgram(t, "xl")
	testenv.NeedProgram(t, "gcc")
	dir := t.TempDir()
	source, library := filepath.Join(dir, "xen.c"), filepath.Join(dir, "xen.so")
	if err := os.WriteFile(source, []byte(withoutXen), 0o644); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "gcc", "-shared", "-fPIC", "-o", library, source)
	return func(file string) Guest {
		t.Helper()
		cmd := exec.Command(xl, "-N", "create", file)
		cmd.Env = append(os.Environ(), "LD_PRELOAD="+library)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("xl -N create %s: %v\n%s", file, err, stderr.String())
		}
		if warnings := strings.TrimSpace(strings.TrimPrefix(stderr.String(), "Parsing config from "+file)); warnings != "" {
			t.Errorf("xl -N create %s says: %s", file, warnings)
		}
		var guest Guest
		if err := json.Unmarshal(out, &guest); err != nil {
			t.Fatalf("xl -N create %s: %v\n%s", file, err, out)
		}
		return guest
	}
}
