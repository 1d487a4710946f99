package results

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/testenv"
)

func stage(t *testing.T, target string, files map[string]string) (*Staging, []image.Artifact) {
	t.Helper()
	s, err := Stage(target)
	if err != nil {
		t.Fatal(err)
	}
	var artifacts []image.Artifact
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		artifacts = append(artifacts, image.Artifact{Key: "key_" + name, File: name, UseForBundle: true})
	}
	return s, artifacts
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestPublish(t *testing.T) {
	testenv.NeedPrograms(t, "sha256sum")
	target := filepath.Join(t.TempDir(), "new", "target")
	s, artifacts := stage(t, target, map[string]string{"a.raw": "disk", "a.packages": "list"})
	if got := list(t, target); len(got) != 1 || !strings.HasPrefix(got[0], ".") {
		t.Errorf("before publishing, the target shows %q", got)
	}
	files, err := s.Publish(t.Context(), Part{Dir: s.Dir, Artifacts: artifacts})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{SumsFile, "a.packages", "a.raw", ListFile}, list(t, target)); diff != "" {
		t.Error(diff)
	}
	testenv.Run(t, "sh", "-c", "cd '"+target+"' && sha256sum --check --strict SHA256SUMS")
	for _, f := range files {
		if info, err := os.Stat(f.Path); err != nil || info.Size() != f.Size || f.Size != 4 {
			t.Errorf("%+v: %v", f, err)
		}
	}
	var kiwi map[string]struct {
		Filename     string `json:"filename"`
		Compress     *bool  `json:"compress"`
		Shasum       *bool  `json:"shasum"`
		UseForBundle *bool  `json:"use_for_bundle"`
	}
	data, err := os.ReadFile(filepath.Join(target, ListFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &kiwi); err != nil {
		t.Fatal(err)
	}
	entry := kiwi["key_a.raw"]
	if len(kiwi) != 2 || entry.Filename != filepath.Join(target, "a.raw") || entry.Compress == nil || entry.Shasum == nil || entry.UseForBundle == nil || !*entry.UseForBundle {
		t.Errorf("%s is %s", ListFile, data)
	}
}

// TestListSaysWhatKIWISays has the keys whose files have a check sum in KIWI's bundles, and those that have none.
func TestListSaysWhatKIWISays(t *testing.T) {
	target := t.TempDir()
	s, _ := stage(t, target, nil)
	want := map[string]bool{
		image.KeyRootArchive: true, image.KeyFilesystemImage: true, image.KeyDiskImage: true, image.KeyDiskFormatImage: true, image.KeyLiveImage: true,
		image.KeyInstallImage: true, image.KeyInstallPXE: true, image.KeyContainer: true, image.KeyKISArchive: true, image.KeyXenHypervisor: true,
		image.KeyMachineSettings: false, image.KeyPackages: false, image.KeyChanges: false, image.KeyVerified: false,
	}
	part := Part{Dir: s.Dir}
	for key := range want {
		if err := os.WriteFile(filepath.Join(s.Dir, key), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		part.Artifacts = append(part.Artifacts, image.Artifact{Key: key, File: key, UseForBundle: true})
	}
	if _, err := s.Publish(t.Context(), part); err != nil {
		t.Fatal(err)
	}
	list, err := ReadList(target)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, r := range list.Results {
		got[r.Key] = r.Shasum
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestOlderResultsStay(t *testing.T) {
	target := t.TempDir()
	for _, files := range []map[string]string{{"old.raw": "1", "gone.raw": "2"}, {"same.raw": "3"}} {
		s, artifacts := stage(t, target, files)
		if _, err := s.Publish(t.Context(), Part{Dir: s.Dir, Artifacts: artifacts}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(target, "gone.raw")); err != nil {
		t.Fatal(err)
	}
	s, artifacts := stage(t, target, map[string]string{"same.raw": "4", "new.raw": "5"})
	if _, err := s.Publish(t.Context(), Part{Dir: s.Dir, Artifacts: artifacts}); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "sh", "-c", "cd '"+target+"' && sha256sum --check --strict SHA256SUMS")
	data, err := os.ReadFile(filepath.Join(target, SumsFile))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(data)) {
		names = append(names, strings.TrimSpace(line[66:]))
	}
	if diff := cmp.Diff([]string{"new.raw", "old.raw", "same.raw"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestLeftoversAreRemovedAndOthersAtWorkAreNot(t *testing.T) {
	target := t.TempDir()
	dead := filepath.Join(target, stagingPrefix+"dead")
	if err := os.MkdirAll(filepath.Join(dead, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	first, _ := stage(t, target, map[string]string{"a": "1"})
	second, _ := stage(t, target, map[string]string{"b": "2"})
	want := []string{filepath.Base(first.Dir), filepath.Base(second.Dir)}
	slices.Sort(want)
	if diff := cmp.Diff(want, list(t, target)); diff != "" {
		t.Error(diff)
	}
	for _, s := range []*Staging{first, second} {
		if err := s.Discard(); err != nil {
			t.Error(err)
		}
	}
	if got := list(t, target); len(got) != 0 {
		t.Errorf("left over: %q", got)
	}
}

func TestAFailedPublishChangesNothing(t *testing.T) {
	target := t.TempDir()
	s, artifacts := stage(t, target, map[string]string{"a.raw": "old"})
	if _, err := s.Publish(t.Context(), Part{Dir: s.Dir, Artifacts: artifacts}); err != nil {
		t.Fatal(err)
	}
	s, artifacts = stage(t, target, map[string]string{"a.raw": "new"})
	if _, err := s.Publish(t.Context(), Part{Dir: s.Dir, Artifacts: append(artifacts, image.Artifact{Key: "k", File: "missing"})}); err == nil {
		t.Fatal("a result that is missing was published")
	}
	if err := s.Discard(); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(target, "a.raw")); err != nil || string(data) != "old" {
		t.Errorf("a.raw holds %q, %v", data, err)
	}
}
