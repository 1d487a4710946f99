package container

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// engineImage is what docker and podman tell of an image.
type engineImage struct {
	RepoTags                      []string
	Author, Architecture, Comment string
	Config                        v1.Config
	Annotations                   map[string]string
	RootFS                        struct{ Layers []string }
	History                       []struct{ Author, Comment string }
}

func engineSees(t *testing.T, text string) engineImage {
	t.Helper()
	var all []engineImage
	if err := json.Unmarshal([]byte(text), &all); err != nil || len(all) != 1 {
		t.Fatalf("it is no image: %v, %s", err, text)
	}
	return all[0]
}

// checkFullConfig compares what an engine sees of the container of fullConfig with it.
func checkFullConfig(t *testing.T, engine string, got engineImage) {
	t.Helper()
	want := v1.Config{
		User: "1000", WorkingDir: "/srv", Entrypoint: []string{"/usr/bin/app", "--serve"}, Cmd: []string{"start"},
		Env:          []string{"LANG=C", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		ExposedPorts: map[string]struct{}{"80": {}, "53/udp": {}}, Volumes: map[string]struct{}{"/data": {}}, Labels: map[string]string{"org.example": "grün & 人"},
	}
	if _, ok := got.Config.ExposedPorts["80/tcp"]; ok { // how docker writes it
		delete(got.Config.ExposedPorts, "80/tcp")
		got.Config.ExposedPorts["80"] = struct{}{}
	}
	if diff := cmp.Diff(want, got.Config); diff != "" {
		t.Errorf("%s sees another config: %s", engine, diff)
	}
	if got.Author != "Maria" || got.Architecture != "arm64" {
		t.Errorf("%s sees author %q, architecture %q", engine, got.Author, got.Architecture)
	}
}

// TestPodmanSeesTheConfig loads both forms.
func TestPodmanSeesTheConfig(t *testing.T) {
	podman := testenv.NeedProgram(t, "podman")
	for _, kind := range []string{"docker", "oci"} {
		dir, err := os.MkdirTemp("", "podman") // podman allows 50 characters
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		})
		run := func(args ...string) string {
			return testenv.Run(t, podman, append([]string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs"}, args...)...)
		}
		run("load", "--quiet", "--input", build(t, request(t, kind, fullConfig)))
		got := engineSees(t, run("image", "inspect", "localhost/team/app:1.2"))
		checkFullConfig(t, "podman", got)
		if kind == "docker" {
			for _, name := range []string{"localhost/team/app:1.2", "localhost/team/app:latest", "localhost/other:3"} {
				if !slices.Contains(got.RepoTags, name) {
					t.Errorf("podman does not know the name %s: %v", name, got.RepoTags)
				}
			}
		}
		if len(got.History) != 1 || got.History[0].Author != "Bob" || got.History[0].Comment != "first" {
			t.Errorf("podman sees the history %+v", got.History)
		}
	}
}

// TestAnnotations are those of the OCI, as skopeo reads them.
func TestAnnotations(t *testing.T) {
	testenv.NeedPrograms(t, "skopeo")
	var m v1.Manifest
	if err := json.Unmarshal([]byte(testenv.Run(t, "skopeo", "inspect", "--raw", "oci-archive:"+build(t, request(t, "oci", fullConfig)))), &m); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{
		"org.opencontainers.image.created": "2023-11-14T22:13:20Z", "org.opencontainers.image.authors": "Maria", "org.opencontainers.image.title": "App",
		"org.opencontainers.image.version": "1.0.0", "org.opencontainers.image.description": "test",
	}, m.Annotations); diff != "" {
		t.Error(diff)
	}
}

// TestClear takes away what a base or the default would run.
func TestClear(t *testing.T) {
	for config, want := range map[string]v1.Config{
		`<entrypoint clear="true"/>`:                          {Entrypoint: []string{}},
		`<subcommand clear="true"/>`:                          {Entrypoint: []string{"/base"}, Cmd: []string{}},
		`<entrypoint clear="true"/><subcommand execute="x"/>`: {Entrypoint: []string{}, Cmd: []string{"x"}},
		"": {Entrypoint: []string{"/base"}, Cmd: []string{"argument"}},
	} {
		r := request(t, "oci", "<containerconfig name=\"x\">"+config+"</containerconfig>")
		got := v1.ConfigFile{Config: v1.Config{Entrypoint: []string{"/base"}, Cmd: []string{"argument"}}}
		configure(&got, r.Description, true)
		if diff := cmp.Diff(want, v1.Config{Entrypoint: got.Config.Entrypoint, Cmd: got.Config.Cmd}); diff != "" {
			t.Errorf("%s: %s", config, diff)
		}
	}
	var alone v1.ConfigFile
	configure(&alone, request(t, "oci", `<containerconfig name="x"><subcommand clear="true"/></containerconfig>`).Description, false)
	if len(alone.Config.Cmd) > 0 {
		t.Errorf("a container without a program runs %v", alone.Config.Cmd)
	}
}

// TestTemporaryDirectories are emptied unless the description wants them kept.
func TestTemporaryDirectories(t *testing.T) {
	for attribute, there := range map[string]bool{"": false, `" ensure_empty_tmpdirs="true`: false, `" ensure_empty_tmpdirs="false`: true} {
		r := request(t, "oci"+attribute, "")
		kept, err := tree(r, r.Tree)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kept.Lookup("run/pid"); (err == nil) != there {
			t.Errorf("%q: /run/pid: %v", attribute, err)
		}
	}
}

func TestCleared(t *testing.T) {
	base := v1.ConfigFile{Config: v1.Config{Entrypoint: []string{"/init"}, Cmd: []string{"serve"}}}
	for inside, want := range map[string]v1.Config{
		``:                           {Entrypoint: []string{"/init"}, Cmd: []string{"serve"}},
		`<subcommand clear="true"/>`: {Entrypoint: []string{"/init"}, Cmd: []string{}},
		`<entrypoint clear="true"/>`: {Entrypoint: []string{}},
		`<subcommand execute="x"/>`:  {Entrypoint: []string{"/init"}, Cmd: []string{"x"}},
		`<entrypoint execute="x"/>`:  {Entrypoint: []string{"x"}},
		`<entrypoint clear="true"/><subcommand execute="x"/>`: {Entrypoint: []string{}, Cmd: []string{"x"}},
	} {
		r := request(t, "oci", `<containerconfig name="x">`+inside+`</containerconfig>`)
		got := base.DeepCopy()
		configure(got, r.Description, true)
		if diff := cmp.Diff(want, v1.Config{Entrypoint: got.Config.Entrypoint, Cmd: got.Config.Cmd}); diff != "" {
			t.Errorf("%s: %s", inside, diff)
		}
		whole := v1.ConfigFile{}
		configure(&whole, r.Description, false)
		if inside == `<subcommand clear="true"/>` && len(whole.Config.Cmd) > 0 {
			t.Errorf("the container runs %v, which was cleared", whole.Config.Cmd)
		}
	}
}
