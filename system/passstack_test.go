package system

import (
	"archive/tar"
	"bytes"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/testimage"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/stash"
	"github.com/imgbuild/imgbuild/stash/stashtest"
)

// someBytes is a text that hardly compresses.
func someBytes(seed uint64, size int) string {
	random := rand.New(rand.NewPCG(seed, seed))
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	return string(data)
}

// foreignContainer is an archive with a layer for each file, which is one gzip stream, as other tools write it.
func foreignContainer(t *testing.T, files map[string]string) string {
	t.Helper()
	img := testimage.WithConfig(t, empty.Image, nil)
	for file, text := range files {
		img = testimage.Append(t, img, testimage.Layer(t, types.DockerLayer, text, tar.Header{Typeflag: tar.TypeReg, Name: file, Mode: 0o644}), v1.History{})
	}
	tag, err := name.NewTag("foreign:latest")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "foreign.tar")
	if err := tarball.WriteToFile(file, tag, img); err != nil {
		t.Fatal(err)
	}
	return "docker-archive:" + file
}

// TestStackTogetherIsAsAlone builds several types from a stack in one pass and one by one: with room for uncompressed layers and without, where a description comes
// with a container and beside it, and where programs run for each type.
func TestStackTogetherIsAsAlone(t *testing.T) {
	testenv.NeedProgram(t, "mke2fs")
	all := []string{"docker", "oci", "tar.zst", "cpio", "squashfs", "ext4"}
	const types = `<type image="docker"><containerconfig name="c"/></type><type image="oci"><containerconfig name="c"/></type><type image="tar.zst"/><type image="cpio"/>
<type image="squashfs"/><type image="ext4"/>`
	tree := map[string]string{
		"etc/passwd": "root:x:0:0::/root:/bin/sh\n", "etc/group": "root:x:0:\n", "etc/shadow": "root:*:1::::::\n", "root/.profile": "",
		"usr/large": someBytes(1, 9<<20), "usr/share/a": "a", "image/config.xml": aDescription("web", types), "bin/sh": someBytes(2, 10),
	}
	for what, test := range map[string]struct {
		described, noRoom bool
		script            string
	}{
		"a description in the stack": {}, "a description beside it": {described: true}, "no room": {noRoom: true},
		"a script for each": {script: "#!/bin/sh\necho $kiwi_type > /etc/imaged\n"},
	} {
		t.Run(what, func(t *testing.T) {
			files := tree
			if test.script != "" {
				files = map[string]string{"image/images.sh": test.script}
				for file, text := range tree {
					files[file] = text
				}
				shell, err := os.ReadFile(testenv.NeedProgram(t, "busybox"))
				if err != nil {
					t.Fatal(err)
				}
				files["bin/sh"] = string(shell)
			}
			top, described := t.TempDir(), ""
			if test.described {
				described = describedBy(t, aDescription("web", types))
			}
			client, root := stashtest.Client(t, nil), t.TempDir()
			for file, text := range files {
				writeFile(t, filepath.Join(root, file), text)
			}
			if err := os.Chmod(filepath.Join(root, "bin/sh"), 0o755); err != nil {
				t.Fatal(err)
			}
			if _, err := stash.Make(t.Context(), client.Store(), stash.Options{Root: root, Name: "lower", Compression: layers.DefaultCompression(), Repro: stashtest.Repro()}); err != nil {
				t.Fatal(err)
			}
			containers := []string{"lower"}
			if !test.noRoom { // else there is none for the archive either
				containers = []string{foreignContainer(t, map[string]string{"usr/share/a": "another", "usr/more": someBytes(3, 3<<20)}), "lower"}
			}
			opts := BuildOptions{Options: from(client, described, containers...), TargetDir: filepath.Join(top, "together")}
			opts.Types = all
			var log bytes.Buffer
			opts.Log = slog.New(slog.NewTextHandler(&log, nil))
			if test.noRoom {
				t.Setenv("TMPDIR", filepath.Join(top, "nowhere"))
			}
			if _, err := Build(t.Context(), opts); err != nil {
				t.Fatal(err)
			}
			if told := strings.Contains(log.String(), "decompresses the layers by itself"); told != test.noRoom {
				t.Errorf("the log: %s", log.String())
			}
			sameAlone(t, opts, all)
		})
	}
}
