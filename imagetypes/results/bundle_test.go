package results

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/testenv"
)

// naming is that of a description.
func naming(pattern string) *Naming {
	d := &description.Image{Name: "Test-1.2.3", Version: "1.2.3", Arch: "x86_64", Profiles: []string{"a", "b"}}
	d.Type.Image, d.Type.BundleFormat = "oem", pattern
	return NamingOf(d)
}

// publish leaves the results of a build in a directory.
func publish(t *testing.T, n *Naming) string {
	t.Helper()
	target := filepath.Join(t.TempDir(), "target")
	s, err := Stage(target)
	if err != nil {
		t.Fatal(err)
	}
	disk := append(bytes.Repeat([]byte("disk"), 3000), make([]byte, 1<<20)...)
	for name, data := range map[string][]byte{".raw": disk, ".packages": []byte("list"), ".vmx": []byte("settings"), ".log": []byte("log")} {
		if err := os.WriteFile(filepath.Join(s.Dir, "Test-1.2.3.x86_64-1.2.3"+name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, err = s.Publish(t.Context(), Part{Type: "oem", Dir: s.Dir, Naming: n, Artifacts: []image.Artifact{
		{Key: image.KeyDiskImage, File: "Test-1.2.3.x86_64-1.2.3.raw", UseForBundle: true, Compress: true},
		{Key: image.KeyPackages, File: "Test-1.2.3.x86_64-1.2.3.packages", UseForBundle: true},
		{Key: image.KeyMachineSettings, File: "Test-1.2.3.x86_64-1.2.3.vmx", UseForBundle: true},
		{Key: "log", File: "Test-1.2.3.x86_64-1.2.3.log"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func TestReadList(t *testing.T) {
	list, err := ReadList(publish(t, naming("%N")))
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, r := range list.Results {
		keys = append(keys, r.Key)
	}
	if diff := cmp.Diff([]string{image.KeyMachineSettings, image.KeyDiskImage, image.KeyPackages, "log"}, keys); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]*Naming{"": naming("%N")}, list.Namings); diff != "" {
		t.Error(diff)
	}
	var missing *NoListError
	if _, err := ReadList(t.TempDir()); !errors.As(err, &missing) {
		t.Error(err)
	}
}

// TestListNamesOtherPlaces takes results from the directory itself: a list may have been moved, or be a stranger's.
func TestListNamesOtherPlaces(t *testing.T) {
	dir := t.TempDir()
	data, err := json.Marshal(map[string]listed{"disk_image": {Filename: "/etc/passwd", UseForBundle: true}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ListFile), data, 0o644); err != nil {
		t.Fatal(err)
	}
	if list, err := ReadList(dir); err == nil {
		t.Errorf("%+v", list)
	}
}

func TestBundle(t *testing.T) {
	testenv.NeedPrograms(t, "xz", "gzip", "zstd", "sha256sum", "zsyncmake")
	for _, test := range []struct {
		name, pattern, flag, compression string
		want                             []string
	}{
		{"plain", "", "", "", []string{"Test-1.2.3.x86_64-1.2.3-B7.packages", "Test-1.2.3.x86_64-1.2.3-B7.raw.xz"}},
		{"pattern", "%N_%P-%v-%A-%I", "", "gzip", []string{"Test-1.2.3_a_b-1.2.3-x86_64-B7.packages", "Test-1.2.3_a_b-1.2.3-x86_64-B7.raw.gz"}},
		{"flag", "%N", "%T.%M.%m.%p%%", "zstd", []string{"oem.1.2.3%.packages", "oem.1.2.3%.raw.zst"}},
		{"none", "", "", "none", []string{"Test-1.2.3.x86_64-1.2.3-B7.packages", "Test-1.2.3.x86_64-1.2.3-B7.raw"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			target, dir := publish(t, naming(test.pattern)), filepath.Join(t.TempDir(), "bundle")
			o := BundleOptions{Target: target, Dir: dir, ID: "B7", Pattern: test.flag, Compression: test.compression, ZsyncSource: "https://example.org/images"}
			for range 2 { // the second one replaces the first
				if _, err := Bundle(t.Context(), o); err != nil {
					t.Fatal(err)
				}
			}
			want := append(test.want, test.want[1]+".sha256", test.want[1]+".zsync", strings.Replace(test.want[0], ".packages", ".vmx", 1))
			if diff := cmp.Diff(want, list(t, dir)); diff != "" {
				t.Error(diff)
			}
			testenv.Run(t, "sh", "-c", "cd '"+dir+"' && sha256sum --check --strict *.sha256")
			original, err := os.ReadFile(filepath.Join(target, "Test-1.2.3.x86_64-1.2.3.raw"))
			if err != nil {
				t.Fatal(err)
			}
			packed := filepath.Join(dir, test.want[1])
			tool := map[string]string{".xz": "xz -dc", ".gz": "gzip -dc", ".zst": "zstd -qdc", ".raw": "cat"}[filepath.Ext(packed)]
			if got := testenv.Run(t, "sh", "-c", tool+" '"+packed+"'"); got != string(original) {
				t.Errorf("%d bytes come out of %s, %d went in", len(got), packed, len(original))
			}
			control, err := os.ReadFile(packed + ".zsync")
			if err != nil || !strings.Contains(string(control), "URL: https://example.org/images/"+test.want[1]+"\n") {
				t.Errorf("%v, %.300q", err, control)
			}
		})
	}
}

// TestBundleWithoutNaming reads a list as KIWI writes it.
func TestBundleWithoutNaming(t *testing.T) {
	target, dir := publish(t, nil), t.TempDir()
	if _, err := Bundle(t.Context(), BundleOptions{Target: target, Dir: dir, ID: "1", Compression: "none"}); err != nil {
		t.Fatal(err)
	}
	want := []string{"Test-1.2.3.x86_64-1.2.3-1.packages", "Test-1.2.3.x86_64-1.2.3-1.raw", "Test-1.2.3.x86_64-1.2.3-1.raw.sha256", "Test-1.2.3.x86_64-1.2.3-1.vmx"}
	if diff := cmp.Diff(want, list(t, dir)); diff != "" {
		t.Error(diff)
	}
}

func TestBadBundles(t *testing.T) {
	target := publish(t, naming(""))
	empty := t.TempDir()
	if err := os.WriteFile(filepath.Join(empty, ListFile), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	for want, o := range map[string]BundleOptions{
		"the id \"a/b\" is not":       {Target: target, ID: "a/b"},
		"the id \"\" is not":          {Target: target},
		"must be another one":         {Target: target, Dir: target, ID: "1"},
		"none of xz":                  {Target: target, ID: "1", Compression: "rar"},
		"has %x, which is none of %N": {Target: target, ID: "1", Pattern: "%N%x"},
		"ends with a %":               {Target: target, ID: "1", Pattern: "%"},
		"which is no file name":       {Target: target, ID: "1", Pattern: "../%N"},
		"would be too long":           {Target: target, ID: "1", Pattern: strings.Repeat("x", 240)},
		"is no address to download":   {Target: target, ID: "1", ZsyncSource: "example.org/images"},
		"names no result":             {Target: empty, ID: "1"},
		"give the --target-dir":       {Target: t.TempDir(), ID: "1"},
	} {
		if o.Dir == "" {
			o.Dir = filepath.Join(t.TempDir(), "bundle")
		}
		if _, err := Bundle(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, not %q", o, err, want)
		}
		if _, err := os.Stat(o.Dir); err == nil && o.Dir != target {
			t.Errorf("%s: there is a bundle all the same", want)
		}
	}
}

// TestBundleOfWhatHasChanged refuses each file that is not what the build wrote, compressed or not, unless there are no sums or the list has the new one.
func TestBundleOfWhatHasChanged(t *testing.T) {
	const base = "Test-1.2.3.x86_64-1.2.3"
	for _, name := range []string{base + ".raw", base + ".packages", base + ".vmx"} {
		for _, compression := range []string{"xz", "zstd", "none"} {
			target, bundle := publish(t, naming("")), filepath.Join(t.TempDir(), "bundle")
			damaged := filepath.Join(target, name)
			data, err := os.ReadFile(damaged)
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)/2] ^= 1
			if err := os.WriteFile(damaged, data, 0o644); err != nil {
				t.Fatal(err)
			}
			o := BundleOptions{Target: target, Dir: bundle, ID: "1", Compression: compression}
			var changed *ChangedError
			if _, err := Bundle(t.Context(), o); !errors.As(err, &changed) || changed.Path != damaged {
				t.Errorf("%s, %s: the error is %v", name, compression, err)
			}
			if _, err := os.Stat(bundle); err == nil {
				t.Errorf("%s, %s: there is a bundle all the same", name, compression)
			}
			testenv.Run(t, "sh", "-c", "cd '"+target+"' && sha256sum -b "+base+".* > SHA256SUMS")
			if _, err := Bundle(t.Context(), o); err != nil {
				t.Errorf("%s, %s, with the new sum: %v", name, compression, err)
			}
		}
	}
	target := publish(t, naming(""))
	if err := os.Remove(filepath.Join(target, SumsFile)); err != nil { // KIWI writes none
		t.Fatal(err)
	}
	if _, err := Bundle(t.Context(), BundleOptions{Target: target, Dir: filepath.Join(t.TempDir(), "bundle"), ID: "1"}); err != nil {
		t.Error(err)
	}
}

// TestBundleThatFails leaves nothing behind, neither a file nor a directory that was not there.
func TestBundleThatFails(t *testing.T) {
	target, top := publish(t, naming("")), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Bundle(ctx, BundleOptions{Target: target, Dir: filepath.Join(top, "bundle"), ID: "1"}); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if left, err := os.ReadDir(top); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestBundleNeedsZsync(t *testing.T) {
	xz := testenv.NeedProgram(t, "xz")
	dir := t.TempDir()
	if err := os.Symlink(xz, filepath.Join(dir, "xz")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	target, bundle := publish(t, naming("")), filepath.Join(t.TempDir(), "bundle")
	_, err := Bundle(t.Context(), BundleOptions{Target: target, Dir: bundle, ID: "1", ZsyncSource: "https://example.org"})
	var missing *command.MissingError
	if !errors.As(err, &missing) {
		t.Skipf("zsyncmake lies elsewhere too: %v", err)
	}
	if _, err := os.Stat(bundle); err == nil {
		t.Error("there is a bundle all the same")
	}
}
