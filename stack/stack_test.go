package stack

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
	"github.com/imgbuild/imgbuild/stash"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	userns.MustEnter()
	os.Exit(m.Run())
}

// epoch is the time of all stashes here.
var epoch = repro.New(time.Unix(1700000000, 0))

// stashed opens a store and stashes root trees in it, each given by its files. A name with a trailing slash is a directory, a text that begins with
// "-> " a symbolic link.
func stashed(t *testing.T, containers map[string]map[string]string) *registry.Client {
	t.Helper()
	client, err := registry.NewClient(registry.Options{Store: filepath.Join(t.TempDir(), "store")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	for name, files := range containers {
		root := t.TempDir()
		for file, text := range files {
			path := filepath.Join(root, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if target, ok := strings.CutPrefix(text, "-> "); ok {
				err = os.Symlink(target, path)
			} else if strings.HasSuffix(file, "/") {
				err = os.MkdirAll(path, 0o755)
			} else {
				err = os.WriteFile(path, []byte(text), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, err := stash.Make(t.Context(), client.Store(), stash.Options{Root: root, Name: name, Repro: epoch}); err != nil {
			t.Fatal(err)
		}
	}
	return client
}

func TestStackKeepsMergedUsr(t *testing.T) {
	client := stashed(t, map[string]map[string]string{
		"base": {"bin": "-> usr/bin", "usr/bin/sh": "base shell", "etc/issue": "base"},
		"app":  {"bin/app": "program", "bin/sh": "app shell", "etc/issue": "app"},
	})
	for rule, want := range map[layers.MergeRule]string{layers.RuleFollow: "usr/bin/app", layers.RuleRsync: "bin/app"} {
		s, err := Make(t.Context(), client, Options{Containers: []string{"base", "app"}, Rule: rule})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Tree.Lookup(want); err != nil {
			t.Errorf("rule %v: %v", rule, err)
		}
		if data, _ := s.Tree.ReadFile("etc/issue", 100); string(data) != "app" {
			t.Errorf("rule %v: the earlier container won: %q", rule, data)
		}
		var paths []string
		for _, c := range s.Report.Clashes {
			paths = append(paths, c.Path)
			if c.From != "base:latest" || c.Took != "app:latest" {
				t.Errorf("clash %+v", c)
			}
		}
		if !strings.Contains(strings.Join(paths, " "), "bin") || !strings.Contains(strings.Join(paths, " "), "etc/issue") {
			t.Errorf("rule %v: clashes at %v", rule, paths)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
