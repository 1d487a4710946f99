package imagetypes

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

func TestLookup(t *testing.T) {
	for _, want := range All() {
		got, err := Lookup(want.Name)
		if err != nil || got.Name != want.Name || got.Builder == nil || got.Family == "" || got.Extension == "" || got.Summary == "" {
			t.Errorf("%s: %+v, %v", want.Name, got, err)
		}
	}
	for typo, want := range map[string]string{"omen": "oem", "dokcer": "docker", "OCI": "oci", "xxxxxxxx": "", "clicfs": ""} {
		_, err := Lookup(typo)
		var unknown *UnknownTypeError
		if !errors.As(err, &unknown) || unknown.Similar != want || !strings.Contains(err.Error(), "tbz") {
			t.Errorf("%s: %v", typo, err)
		}
	}
}

func options(t *testing.T, dir, attributes string) CreateOptions {
	t.Helper()
	edit := layers.NewTree().Edit(layers.Timespec{Sec: 1600000000})
	for name, text := range map[string]string{
		"etc/hosts":                      "localhost\n",
		"var/lib/dpkg/status":            "Package: bash\nStatus: install ok installed\nVersion: 5.2-1\nArchitecture: amd64\nMaintainer: x\nDescription: shell\n",
		"var/lib/dpkg/info/bash.md5sums": "00000000000000000000000000000000  etc/hosts\n",
		"var/lib/dpkg/info/bash.list":    "/etc/hosts\n",
	} {
		if err := edit.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return CreateOptions{Tree: edit.Tree(), Description: describe(t, attributes, ""), TargetDir: dir, Repro: repro.New(time.Unix(1700000000, 0), "test")}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestCreate(t *testing.T) {
	testenv.NeedPrograms(t, "xz", "sha256sum")
	dir := t.TempDir()
	results, err := Create(t.Context(), options(t, dir, `image="tbz"`))
	if err != nil {
		t.Fatal(err)
	}
	base := "Test-VM.x86_64-1.2.3"
	if diff := cmp.Diff([]string{"SHA256SUMS", base + ".changes", base + ".packages", base + ".tar.xz", base + ".verified", "kiwi.result.json"}, names(t, dir)); diff != "" {
		t.Error(diff)
	}
	if results.Files[0].Path != filepath.Join(dir, base+".tar.xz") || len(results.Files) != 4 {
		t.Errorf("results are %+v", results)
	}
	testenv.Run(t, "sh", "-c", "cd '"+dir+"' && sha256sum --check --strict SHA256SUMS")
	for suffix, want := range map[string]string{".packages": "bash|None|5.2-1|None|amd64|None|None\n", ".verified": "/etc/hosts"} {
		if data, err := os.ReadFile(filepath.Join(dir, base+suffix)); err != nil || !strings.Contains(string(data), want) {
			t.Errorf("%s holds %q, %v", suffix, data, err)
		}
	}
}

func TestAFailedOrCancelledBuildLeavesNothing(t *testing.T) {
	testenv.NeedPrograms(t, "xz")
	dir := t.TempDir()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the user asked"))
	if _, err := Create(ctx, options(t, dir, `image="tbz"`)); err == nil || !strings.Contains(err.Error(), "the user asked") {
		t.Errorf("error is %v", err)
	}
	if got := names(t, dir); len(got) != 0 {
		t.Errorf("left over: %q", got)
	}
}

func TestCheckAndPlan(t *testing.T) {
	testenv.NeedPrograms(t, "xz")
	o := options(t, "/nonexistent/target", `image="tbz"`)
	text, err := Plan(t.Context(), o)
	if err != nil || !strings.Contains(text, "Test-VM.x86_64-1.2.3.tar.xz") {
		t.Errorf("plan is %q, %v", text, err)
	}
	o.Tree = nil
	if err := Check(t.Context(), o); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(o.TargetDir); err == nil {
		t.Error("planning made the target directory")
	}
}

func TestTypesWithoutBuilder(t *testing.T) {
	d := describe(t, `image="clicfs"`, "")
	_, err := Create(t.Context(), CreateOptions{Tree: layers.NewTree(), Description: d, TargetDir: t.TempDir()})
	var where *description.Error
	if !errors.As(err, &where) || where.Pos.IsZero() {
		t.Errorf("error is %v", err)
	}
}
