// Package stashtest stashes small root trees for tests.
package stashtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/stash"
)

// Repro gives the time of all stashes here.
func Repro() repro.Source { return repro.New(time.Unix(1700000000, 0)) }

// Client opens a store and stashes root trees in it, by name, each given by its files. A name with a trailing slash is a directory, a text that
// begins with "-> " a symbolic link, and what is in a directory bin a program.
func Client(t *testing.T, containers map[string]map[string]string) *registry.Client {
	t.Helper()
	client, err := registry.NewClient(registry.Options{Store: filepath.Join(t.TempDir(), "store")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	for name, files := range containers {
		root := t.TempDir()
		for file, text := range files {
			if err := write(filepath.Join(root, file), strings.HasSuffix(file, "/"), text); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := stash.Make(t.Context(), client.Store(), stash.Options{Root: root, Name: name, Repro: Repro()}); err != nil {
			t.Fatal(err)
		}
	}
	return client
}

func write(path string, dir bool, text string) error {
	if dir {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if target, ok := strings.CutPrefix(text, "-> "); ok {
		return os.Symlink(target, path)
	}
	perm := os.FileMode(0o644)
	if filepath.Base(filepath.Dir(path)) == "bin" {
		perm = 0o755
	}
	return os.WriteFile(path, []byte(text), perm)
}
