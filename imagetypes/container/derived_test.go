package container

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
	layercontainer "github.com/imgbuild/imgbuild/layers/container"
	"github.com/imgbuild/imgbuild/layers/layerstest"
	"github.com/imgbuild/imgbuild/registry/archive"
	"github.com/imgbuild/imgbuild/registry/reference"
)

// opened is the image in an archive with its tree.
func opened(t *testing.T, transport reference.Transport, file string) *image.Base {
	t.Helper()
	img, err := archive.Open(t.Context(), reference.Reference{Transport: transport, Path: file}, archive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { img.Close() })
	tree, err := layercontainer.Open(t.Context(), img, nil, layercontainer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return &image.Base{Name: "base:1", Image: img, Tree: tree.Tree}
}

// derived returns a base container and a request for one that is derived from it: with a file added, one changed, one gone, and another mode.
func derived(t *testing.T, kind, attributes string) (*image.Base, *image.Request) {
	t.Helper()
	base := opened(t, reference.OCIArchive, build(t, request(t, "oci", fullConfig)))
	r := request(t, kind+`" derived_from="file:///base" `+attributes+` primary="true`, `<containerconfig name="own">
  <environment><env name="LANG" value="de"/><env name="MORE" value="1"/></environment>
  <expose><port number="443"/></expose>
  <labels><label name="org.example" value="no"/></labels>
  <history author="Eve">second</history>
</containerconfig>`)
	edit := base.Tree.Edit(layers.Timespec{Sec: 1600000100})
	for name, data := range map[string]string{"usr/share/new": "new", "etc/hosts": "changed"} {
		if err := edit.WriteFile(name, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := edit.Remove("usr/bin/link"); err != nil {
		t.Fatal(err)
	}
	r.Tree, r.Base = edit.Tree(), base
	return base, r
}

func layerDigests(t *testing.T, img v1.Image) []string {
	t.Helper()
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	var digests []string
	for _, l := range m.Layers {
		digests = append(digests, l.Digest.String())
	}
	return digests
}

func TestDerivedHasTheLayersOfItsBase(t *testing.T) {
	base, r := derived(t, "oci", "")
	file := build(t, r)
	got := opened(t, reference.OCIArchive, file)
	before, after := layerDigests(t, base.Image), layerDigests(t, got.Image)
	if len(after) != len(before)+1 || !slices.Equal(before, after[:len(before)]) {
		t.Fatalf("the base has the layers %v, the container %v", before, after)
	}
	layerstest.Same(t, r.Tree, got.Tree)
	own, err := content(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range own.Entries {
		names = append(names, e.Kind.String()+" "+e.Name)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "usr/bin/app") {
			t.Errorf("what did not change is in the layer: %v", names)
		}
	}
	config, err := got.Image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := config.Config
	want := v1.Config{
		User: "1000", WorkingDir: "/srv", Entrypoint: []string{"/usr/bin/app", "--serve"}, Cmd: []string{"start"},
		Env:          []string{"LANG=de", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "MORE=1"},
		ExposedPorts: map[string]struct{}{"80": {}, "53/udp": {}, "443": {}}, Volumes: map[string]struct{}{"/data": {}}, Labels: map[string]string{"org.example": "no"},
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
	if len(config.History) != 2 || config.History[0].Author != "Bob" || config.History[1].Author != "Eve" {
		t.Errorf("the history is %+v", config.History)
	}
	m, err := got.Image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := base.Image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if m.Annotations["org.opencontainers.image.base.digest"] != digest.String() || m.Annotations["org.opencontainers.image.base.name"] != "base:1" {
		t.Errorf("the annotations are %v", m.Annotations)
	}
}

func TestDeltaHasTheDifferenceAlone(t *testing.T) {
	base, r := derived(t, "oci", `delta_root="true"`)
	got := opened(t, reference.OCIArchive, build(t, r))
	if n := len(layerDigests(t, got.Image)); n != 1 {
		t.Fatalf("a delta container has %d layers", n)
	}
	config, err := got.Image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := base.Image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.Labels[layercontainer.DeltaLabel] != digest.String() || config.Config.User != "1000" {
		t.Errorf("the config is %+v", config.Config)
	}
	back, err := layercontainer.Open(t.Context(), got.Image, nil, layercontainer.Options{Base: base.Tree})
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	layerstest.Same(t, r.Tree, back.Tree)
}

func TestDerivedNeedsItsBase(t *testing.T) {
	_, r := derived(t, "oci", "")
	r.Base = nil
	if err := (Builder{}).Check(t.Context(), r); err == nil || !strings.Contains(err.Error(), "file:///base") {
		t.Errorf("error is %v", err)
	}
	alone := request(t, `oci" delta_root="true" primary="true`, "")
	if err := (Builder{}).Check(t.Context(), alone); err == nil || !strings.Contains(err.Error(), "derived_from") {
		t.Errorf("error is %v", err)
	}
}

func TestDockerEngineRunsThem(t *testing.T) {
	testenv.NeedRealRoot(t)
	tree := layerstest.Tree(t, layerstest.Debian)
	docker := testenv.StartDocker(t)
	whole := request(t, "docker", `<containerconfig name="whole" tag="1"><subcommand execute="/bin/cat"><argument name="/etc/debian_version"/></subcommand></containerconfig>`)
	whole.Description.Arch = "x86_64"
	whole.Tree = tree
	file := build(t, whole)
	docker.Run(t, "load", "--input", file)
	if out := docker.Run(t, "run", "--rm", "--network", "none", "whole:1"); !strings.HasPrefix(out, "12") {
		t.Errorf("the container printed %q", out)
	}

	packed := *whole
	packed.Dir, packed.Container.Compression = t.TempDir(), &layers.Compression{Algorithm: layers.Gzip}
	docker.Run(t, "image", "rm", "whole:1") // or the layer would be there
	docker.Run(t, "load", "--input", build(t, &packed))
	if out := docker.Run(t, "run", "--rm", "--network", "none", "whole:1"); !strings.HasPrefix(out, "12") {
		t.Errorf("the container with a gzipped layer printed %q", out)
	}

	base := opened(t, reference.DockerArchive, file)
	r := request(t, `docker" derived_from="file:///base" primary="true`, `<containerconfig name="derived" tag="2"><environment><env name="WORD" value="hello"/></environment></containerconfig>`)
	r.Description.Arch = "x86_64"
	edit := base.Tree.Edit(layers.Timespec{Sec: time.Now().Unix()})
	if err := edit.WriteFile("usr/local/bin/greet", []byte("#!/bin/sh\necho $WORD; ls /etc/hostname /etc/motd; stat -c %a /tmp\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := edit.Remove("etc/motd"); err != nil {
		t.Fatal(err)
	}
	r.Tree, r.Base = edit.Tree(), base
	docker.Run(t, "load", "--input", build(t, r))
	out := docker.Run(t, "run", "--rm", "--network", "none", "derived:2", "/bin/sh", "-c", "greet 2>&1; true")
	if !strings.Contains(out, "hello\n") || !strings.Contains(out, "/etc/motd': No such file") || !strings.Contains(out, "1777") {
		t.Errorf("the derived container printed %q", out)
	}
	about := engineSees(t, docker.Run(t, "image", "inspect", "derived:2"))
	if len(about.RootFS.Layers) != 2 {
		t.Errorf("docker sees %+v", about)
	}
	docker.Run(t, "load", "--input", build(t, request(t, "docker", fullConfig)))
	checkFullConfig(t, "docker", engineSees(t, docker.Run(t, "image", "inspect", "team/app:1.2")))
	for _, name := range []string{"team/app:latest", "other:3"} {
		docker.Run(t, "image", "inspect", name)
	}
}
