package archive

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

func request(t *testing.T) *image.Request {
	t.Helper()
	edit := layers.NewTree().Edit(layers.Timespec{Sec: 1600000000, Nsec: 987654321})
	for name, data := range map[string]string{"etc/hosts": "localhost", "image/config.xml": "x", ".profile": "x", "usr/bin/x": strings.Repeat("x", 1<<20)} {
		if err := edit.WriteFile(name, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := edit.Change("usr/bin/x", func(n *layers.Node) {
		n.Xattrs = []layers.Xattr{{Name: "user.note", Value: "yes"}}
		n.UID, n.GID = 12345, 70000
	}); err != nil {
		t.Fatal(err)
	}
	return &image.Request{Tree: edit.Tree(), Description: &description.Image{}, BaseName: "Test.x86_64-1.0.0", Dir: t.TempDir(), Repro: repro.New(time.Unix(0, 0))}
}

func TestBuild(t *testing.T) {
	testenv.NeedPrograms(t, "xz", "tar")
	var archives [][]byte
	for range 2 {
		r := request(t)
		results, err := Builder{}.Build(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(r.Dir, results[0].File)
		if results[0].Key != image.KeyRootArchive || !strings.HasSuffix(file, "Test.x86_64-1.0.0.tar.xz") {
			t.Errorf("the result is %+v", results[0])
		}
		out := testenv.Run(t, "tar", "--numeric-owner", "--full-time", "--xattrs", "-tvvJf", file)
		for _, want := range []string{"12345/70000", "user.note", "etc/hosts", "2020-09-13"} {
			if !strings.Contains(out, want) {
				t.Errorf("tar does not see %q: %s", want, out)
			}
		}
		if strings.Contains(out, "image/") || strings.Contains(out, ".profile") {
			t.Errorf("what only served the building is in the archive: %s", out)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		archives = append(archives, data)
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("two builds differ")
	}
}

func TestPlanAndCheck(t *testing.T) {
	testenv.NeedPrograms(t, "xz")
	r := request(t)
	if err := (Builder{}).Check(t.Context(), r); err != nil {
		t.Error(err)
	}
	if text, err := (Builder{}).Plan(t.Context(), r); err != nil || !strings.Contains(text, "Test.x86_64-1.0.0.tar.xz") {
		t.Errorf("plan is %q, %v", text, err)
	}
}
