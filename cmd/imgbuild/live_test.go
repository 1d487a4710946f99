package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// TestBootLiveISO runs the commands of the documents: a Debian from packages that starts from a CD.
func TestBootLiveISO(t *testing.T) {
	if os.Getenv("IMGBUILD_TEST_BOOT") != "all" {
		t.Skip("IMGBUILD_TEST_BOOT=all runs this test")
	}
	k := wholeBuild(t)
	testenv.NeedRealRoot(t)
	testenv.NeedPrograms(t, "qemu-system-x86_64", "xorriso")
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(examples, filepath.Join(k.dir, "examples")); err != nil {
		t.Fatal(err)
	}
	for i, line := range documented(t, "live-iso.md", "A Debian on a stick")[:3] { // what follows writes a stick
		start := time.Now()
		cmd := exec.Command("sh", "-c", line)
		cmd.Dir = k.dir
		cmd.Env = append(k.command().Env, "PATH="+k.dir+":"+os.Getenv("PATH"))
		out, err := cmd.Output()
		t.Logf("%v: %s", time.Since(start).Round(100*time.Millisecond), line)
		if want := []string{"Debian-Live.x86_64-1.0.0.iso", "os-release", "overlay"}[i]; err != nil || !strings.Contains(string(out), want) {
			t.Fatalf("%s: %v, %q lacks %q", line, err, out, want)
		}
	}
	k.nothingLeft()
}
