package iso

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// checked builds a medium with digests. It returns its name and a function that runs the check of the initial RAM disk on it.
func checked(t *testing.T) (string, func() (string, error)) {
	t.Helper()
	needTools(t)
	testenv.NeedPrograms(t, "sh", "dd", "od", "sha256sum")
	testenv.NeedRoot(t)
	file, _ := build(t, request(t, smallTree(t, nil), `flags="dmsquash" mediacheck="true"`, ""))
	script, err := ownFiles.ReadFile("dracut/check-medium.sh")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	// What dracut has, and a console that is a file.
	text := strings.ReplaceAll(string(script), ". /lib/live-medium.sh", "medium_of() { echo \"$1\"; }")
	text = "getargbool() { true; }\ngetarg() { true; }\ndie() { echo \"die: $*\" >> " + dir + "/console; exit 1; }\nroot=live:" + file + "\n" +
		strings.ReplaceAll(text, "> /dev/console", ">> "+dir+"/console")
	name := filepath.Join(dir, "check.sh")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, func() (string, error) {
		out, err := exec.Command("sh", name).CombinedOutput()
		return string(out) + read(t, dir, "console"), err
	}
}

// change adds one to a byte of a file.
func change(t *testing.T, name string, at int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0]++
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// TestMediaCheck lets isomd5sum's program and the script for the initial RAM disk check a medium, good and damaged.
func TestMediaCheck(t *testing.T) {
	file, check := checked(t)
	testenv.Run(t, testenv.NeedProgram(t, "checkisomd5"), file)
	if out, err := check(); err != nil || !strings.Contains(out, "The medium is good.") {
		t.Fatalf("%v: %s", err, out)
	}
	// A partition table that has changed is no damage.
	change(t, file, 0x1be+16*3)
	if out, err := check(); err != nil || !strings.Contains(out, "The medium is good.") {
		t.Fatalf("%v: %s", err, out)
	}
	change(t, file, 1<<20)
	if out, err := check(); err == nil || !strings.Contains(out, "DAMAGED") || !strings.Contains(out, "die:") {
		t.Errorf("%v: %s", err, out)
	}
	if err := exec.Command("checkisomd5", file).Run(); err == nil {
		t.Error("checkisomd5 finds a damaged medium good")
	}
}

// TestOwnDigestInKIWIsForm computes the SHA-256 of checkmedia as its documentation says it is.
func TestOwnDigestInKIWIsForm(t *testing.T) {
	file, _ := checked(t)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	area := data[0x8373 : 0x8572+1]
	text := string(area)
	if len(area) != 512 || !strings.HasPrefix(text, "ISO MD5SUM = ") || !strings.HasSuffix(text, "   ") {
		t.Errorf("the area is %q", text)
	}
	copy(area, bytes.Repeat([]byte{' '}, len(area)))
	clear(data[:0x200])
	name := filepath.Join(t.TempDir(), "normal")
	size := int(data[0x8050]) | int(data[0x8051])<<8 | int(data[0x8052])<<16 | int(data[0x8053])<<24
	if err := os.WriteFile(name, data[:size*2048], 0o600); err != nil {
		t.Fatal(err)
	}
	sum, _, _ := strings.Cut(testenv.Run(t, "sha256sum", name), " ")
	if !strings.Contains(text, ";check=1;pad=0;sha256sum="+sum+" ") {
		t.Errorf("the area is %q; SHA-256 is %s", text, sum)
	}
}

func TestTooSmallAnImage(t *testing.T) {
	if _, err := compute(t.Context(), bytes.NewReader(make([]byte, 64<<10)), func(int64) {}); err == nil {
		t.Error("no error")
	}
	if _, err := compute(t.Context(), bytes.NewReader(nil), func(int64) {}); err == nil {
		t.Error("no error")
	}
}
