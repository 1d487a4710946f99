package container

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
)

const fullConfig = `<containerconfig name="team/app" tag="1.2" additionalnames=":latest,other:3" maintainer="Maria" user="1000" workingdir="/srv">
  <entrypoint execute="/usr/bin/app"><argument name="--serve"/></entrypoint>
  <subcommand execute="start"/>
  <expose><port number="80"/><port number="53/udp"/></expose>
  <volumes><volume name="/data"/></volumes>
  <environment><env name="LANG" value="C"/></environment>
  <labels><label name="org.example" value="grün &amp; 人"/></labels>
  <history author="Bob" created_by="a builder">first</history>
</containerconfig>`

func request(t *testing.T, kind, config string) *image.Request {
	t.Helper()
	text := fmt.Sprintf(`<?xml version="1.0" encoding="utf-8"?>
<image schemaversion="7.6" name="App">
  <description type="system"><author>A</author><contact>a@example.org</contact><specification>test</specification></description>
  <preferences><version>1.0.0</version><packagemanager>apt</packagemanager><type image="%s">%s</type></preferences>
  <repository type="apt-deb"><source path="http://deb.debian.org/debian"/></repository>
  <packages type="image"><package name="bash"/></packages>
</image>`, kind, config)
	doc, err := description.LoadFS(fstest.MapFS{"config.xml": {Data: []byte(text)}}, "", description.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := doc.Resolve(description.Selection{Arch: "aarch64"})
	if err != nil {
		t.Fatal(err)
	}
	edit := layers.NewTree().Edit(layers.Timespec{Sec: 1600000000, Nsec: 5})
	for name, data := range map[string]string{"usr/bin/app": "program", "dev/junk": "x", "image/config.xml": "x", "run/pid": "1", "etc/hosts": "h"} {
		if err := edit.WriteFile(name, []byte(data), 0o4755); err != nil {
			t.Fatal(err)
		}
	}
	if err := edit.Link("usr/bin/app", "usr/bin/link"); err != nil {
		t.Fatal(err)
	}
	return &image.Request{Tree: edit.Tree(), Description: d, BaseName: "App.aarch64-1.0.0", Dir: t.TempDir(), Repro: repro.New(time.Unix(1700000000, 0), "test")}
}

func build(t *testing.T, r *image.Request) string {
	t.Helper()
	if err := (Builder{}).Check(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	results, err := Builder{}.Build(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(r.Dir, results[0].File)
}

// inspected is what skopeo inspect --config prints.
type inspected struct {
	Created      string `json:"created"`
	Author       string `json:"author"`
	Architecture string `json:"architecture"`
	Config       struct {
		User, WorkingDir      string
		Entrypoint, Cmd, Env  []string
		ExposedPorts, Volumes map[string]struct{}
		Labels                map[string]string
	} `json:"config"`
	History []struct {
		Author    string `json:"author"`
		CreatedBy string `json:"created_by"`
		Comment   string `json:"comment"`
	} `json:"history"`
}

func TestForeignReaders(t *testing.T) {
	testenv.NeedPrograms(t, "skopeo", "umoci")
	for kind, from := range map[string]string{"oci": "oci-archive", "docker": "docker-archive"} {
		file := build(t, request(t, kind, fullConfig))
		var got inspected
		if err := json.Unmarshal([]byte(testenv.Run(t, "skopeo", "inspect", "--config", from+":"+file)), &got); err != nil {
			t.Fatal(err)
		}
		c := got.Config
		if got.Author != "Maria" || got.Architecture != "arm64" || got.Created != "2023-11-14T22:13:20Z" || c.User != "1000" || c.WorkingDir != "/srv" || c.Labels["org.example"] != "grün & 人" {
			t.Errorf("%s: the config is %+v", kind, got)
		}
		if diff := cmp.Diff([]string{"/usr/bin/app", "--serve"}, c.Entrypoint); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"start"}, c.Cmd); diff != "" {
			t.Error(diff)
		}
		if _, ok := c.ExposedPorts["53/udp"]; !ok || len(c.ExposedPorts) != 2 || len(c.Volumes) != 1 || len(c.Env) != 2 {
			t.Errorf("%s: the config is %+v", kind, c)
		}
		if len(got.History) != 1 || got.History[0].Author != "Bob" || got.History[0].CreatedBy != "a builder" || got.History[0].Comment != "first" {
			t.Errorf("%s: the history is %+v", kind, got.History)
		}
		if kind == "docker" {
			list := testenv.Run(t, "tar", "-xOf", file, "manifest.json")
			for _, name := range []string{"team/app:1.2", "team/app:latest", "other:3"} {
				if !strings.Contains(list, name+"\"") {
					t.Errorf("the archive lacks the name %s: %s", name, list)
				}
			}
		}
		dir := t.TempDir()
		testenv.Run(t, "skopeo", "--insecure-policy", "copy", from+":"+file, "oci:"+dir+"/layout:x")
		testenv.Run(t, "umoci", "unpack", "--rootless", "--image", dir+"/layout:x", dir+"/bundle")
		root := dir + "/bundle/rootfs"
		if data, err := os.ReadFile(root + "/usr/bin/link"); err != nil || string(data) != "program" {
			t.Errorf("%s: /usr/bin/link holds %q, %v", kind, data, err)
		}
		for _, gone := range []string{"/dev/junk", "/image", "/run/pid"} {
			if _, err := os.Lstat(root + gone); err == nil {
				t.Errorf("%s: %s is in the container", kind, gone)
			}
		}
	}
}

func TestReproducible(t *testing.T) {
	for _, kind := range []string{"docker", "oci"} {
		var images [][]byte
		for range 2 {
			data, err := os.ReadFile(build(t, request(t, kind, "")))
			if err != nil {
				t.Fatal(err)
			}
			images = append(images, data)
			time.Sleep(1100 * time.Millisecond)
		}
		if !bytes.Equal(images[0], images[1]) {
			t.Errorf("%s: two builds differ", kind)
		}
	}
}

func TestDefaults(t *testing.T) {
	r := request(t, "docker", "")
	if diff := cmp.Diff([]string{"system-container:latest"}, names(&r.Description.Type)); diff != "" {
		t.Error(diff)
	}
	full := request(t, "docker", fullConfig)
	if diff := cmp.Diff([]string{"team/app:1.2", "team/app:latest", "other:3"}, names(&full.Description.Type)); diff != "" {
		t.Error(diff)
	}
	odd := request(t, "docker", `<containerconfig name="localhost:5000/app" additionalnames=":latest,:new,:new,more,reg.example.org:5000/x,other:latest"/>`)
	if diff := cmp.Diff([]string{"localhost:5000/app:latest", "localhost:5000/app:new", "more:latest", "reg.example.org:5000/x:latest", "other:latest"}, names(&odd.Description.Type)); diff != "" {
		t.Error(diff)
	}
	var got v1.ConfigFile
	configure(&got, r.Description, false)
	if diff := cmp.Diff([]string{"/bin/bash"}, got.Config.Cmd); diff != "" || got.Author != "A <a@example.org>" {
		t.Errorf("%s, author %q", diff, got.Author)
	}
}

func TestBadNameIsRefused(t *testing.T) {
	r := request(t, "docker", `<containerconfig name="app"/>`)
	r.Description.Type.Container.Name = "Team/App" // as where the checks of descriptions are switched off
	if err := (Builder{}).Check(t.Context(), r); err == nil || !strings.Contains(err.Error(), "config.xml:") {
		t.Errorf("error is %v", err)
	}
}
