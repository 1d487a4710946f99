package system

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
	"github.com/imgbuild/imgbuild/stack"
	"github.com/imgbuild/imgbuild/stash/stashtest"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	userns.MustEnter()
	os.Exit(m.Run())
}

// from are the options of a build that starts from containers.
func from(client *registry.Client, description string, containers ...string) Options {
	return Options{Client: func() (*registry.Client, error) { return client, nil }, Description: description, Repro: stashtest.Repro(),
		Stack: stack.Options{Containers: containers, Fetch: registry.FetchOptions{Pull: registry.PullNever}}}
}

// aDescription asks for a container, whose builder needs nothing of the tree.
func aDescription(name, types string) string {
	return `<?xml version="1.0" encoding="utf-8"?>
<image schemaversion="7.4" name="` + name + `">
  <description type="system"><author>A</author><contact>a@example.org</contact><specification>S</specification></description>
  <preferences><version>1.2.3</version><packagemanager>apt</packagemanager>` + types + `</preferences>
  <repository type="apt-deb"><source path="http://127.0.0.1:1/nothing/is/here"/></repository>
  <packages type="image"/>
  <users><user name="root" password="$6$x$y" home="/root" groups="root"/></users>
</image>
`
}

const ociType = `<type image="oci"><containerconfig name="c"/></type>`

func describedBy(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.xml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestBuildFromDescriptionRunsNothing(t *testing.T) {
	client := stashtest.Client(t, map[string]map[string]string{
		"base": {"etc/passwd": "root:x:0:0::/root:/bin/sh\n", "etc/group": "root:x:0:\n", "etc/shadow": "root:*:1::::::\n",
			"image/config.xml": aDescription("old", ociType), "image/config.sh": "exit 1", "root/": ""},
	})
	target := t.TempDir()
	dir := describedBy(t, aDescription("web", ociType))
	if err := os.MkdirAll(filepath.Join(dir, "root/etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "root/etc/motd"), []byte("welcome"), 0o644); err != nil {
		t.Fatal(err)
	}
	built, err := Build(t.Context(), BuildOptions{Options: from(client, dir, "base"), TargetDir: target})
	if err != nil {
		t.Fatal(err)
	}
	if name := filepath.Base(built.Results.Files[0].Path); !strings.HasPrefix(name, "web.") || !strings.Contains(name, "-1.2.3.oci.tar") {
		t.Errorf("the image is %s", name)
	}
	if _, err := os.Stat(filepath.Join(target, RootDir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a root tree was unpacked: %v", err)
	}
	data, err := os.ReadFile(filepath.Join(target, ReportFile))
	if err != nil {
		t.Fatal(err)
	}
	var report stack.Report
	if err := json.Unmarshal(data, &report); err != nil || len(report.Containers) != 1 {
		t.Errorf("report %s: %v", data, err)
	}
	image := "oci-archive:" + built.Results.Files[0].Path
	s, err := stack.Make(t.Context(), client, stack.Options{Containers: []string{image}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if data, err := s.Tree.ReadFile("etc/motd", 100); string(data) != "welcome" {
		t.Errorf("the overlay's file: %q, %v", data, err)
	}
	if data, _ := s.Tree.ReadFile("etc/shadow", 1000); !strings.Contains(string(data), "$6$x$y") {
		t.Errorf("the password: %q", data)
	}
	if _, err := s.Tree.Lookup("image"); err == nil {
		t.Error("the description is in the image")
	}
}

func TestRebuildTouchesNothing(t *testing.T) {
	client := stashtest.Client(t, map[string]map[string]string{
		"first": {"etc/hostname": "first", "image/config.xml": aDescription("first", ociType)},
		"last": {"etc/hostname": "last", "etc/passwd": "root:x:0:0::/root:/bin/sh\n",
			"image/config.xml": aDescription("last", `<type image="tbz"/>`+ociType)},
	})
	target := t.TempDir()
	opts := BuildOptions{Options: from(client, "", "first", "last"), TargetDir: target}
	opts.Selection.Type = "oci"
	built, err := Build(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if name := filepath.Base(built.Results.Files[0].Path); !strings.HasPrefix(name, "last.") || !strings.HasSuffix(name, ".oci.tar") {
		t.Errorf("the image is %s", name)
	}
	again := t.TempDir()
	opts.TargetDir = again
	if _, err := Build(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	var sums [2]string
	for i, dir := range []string{target, again} {
		data, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = string(data)
	}
	if diff := cmp.Diff(sums[0], sums[1]); diff != "" {
		t.Errorf("two builds from the same inputs differ: %s", diff)
	}
}

func TestBuildRefuses(t *testing.T) {
	client := stashtest.Client(t, map[string]map[string]string{"plain": {"etc/motd": "x"}, "broken": {"image/config.xml": "<image"}})
	used := t.TempDir()
	if err := os.MkdirAll(filepath.Join(used, RootDir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	good := describedBy(t, aDescription("web", ociType))
	for name, c := range map[string]struct {
		containers  []string
		description string
		target      string
		kind        string
		want        string
	}{
		"target in use":             {[]string{"plain"}, good, used, "", "--force"},
		"no description anywhere":   {[]string{"plain"}, "", t.TempDir(), "", "--description"},
		"broken description inside": {[]string{"broken"}, "", t.TempDir(), "", "config.xml"},
		"no such container":         {[]string{"none"}, good, t.TempDir(), "", "none"},
		"no such type":              {[]string{"plain"}, good, t.TempDir(), "iso", "iso"},
		"nothing at all":            {nil, "", t.TempDir(), "", "neither a description"},
		"no such description":       {[]string{"plain"}, filepath.Join(good, "none"), t.TempDir(), "", "none"},
	} {
		opts := BuildOptions{Options: from(client, c.description, c.containers...), TargetDir: c.target}
		opts.Selection.Type = c.kind
		_, err := Build(t.Context(), opts)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := filepath.Glob(filepath.Join(c.target, "*.tar")); len(left) > 0 {
			t.Errorf("%s: left %v", name, left)
		}
	}
}

func TestForceReplacesAnEarlierRootTree(t *testing.T) {
	client := stashtest.Client(t, map[string]map[string]string{"base": {"etc/issue": "base"}})
	target := t.TempDir()
	work := place(t, filepath.Join(target, RootDir))
	for _, dir := range []string{work.root, work.unpackTo()} { // of an earlier build, and of one that was killed
		if err := os.MkdirAll(filepath.Join(dir, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	opts := BuildOptions{Options: from(client, describedBy(t, aDescription("web", ociType)), "base"), TargetDir: target}
	opts.Stack.Force = true
	if err := work.open(); err != nil {
		t.Fatal(err)
	}
	if _, err := Build(t.Context(), opts); !errors.Is(err, ErrInUse) {
		t.Errorf("beside another build: %v", err)
	}
	if err := work.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Build(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(target, "build")); err != nil || len(left) > 0 {
		t.Errorf("left below build: %v, %v", left, err)
	}
}

func TestPlanWritesNothing(t *testing.T) {
	client := stashtest.Client(t, map[string]map[string]string{"base": {"etc/issue": "base"}, "app": {"etc/issue": "app"}})
	target := filepath.Join(t.TempDir(), "out")
	plan, err := MakePlan(t.Context(), BuildOptions{Options: from(client, describedBy(t, aDescription("web", ociType)), "base", "app"), TargetDir: target})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := plan.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1. base:latest  1 layer", "here in store", "Image: web 1.2.3", "type oci", `"/etc/issue"`} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the plan lacks %q:\n%s", want, b.String())
		}
	}
	if _, err := os.Stat(target); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("planning made the target: %v", err)
	}
}

func TestCancelledBuildLeavesNothing(t *testing.T) {
	client := stashtest.Client(t, map[string]map[string]string{"base": {"etc/issue": "base"}})
	target := filepath.Join(t.TempDir(), "out")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Build(ctx, BuildOptions{Options: from(client, describedBy(t, aDescription("web", ociType)), "base"), TargetDir: target})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(target, "*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}
