package container

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/registry/manifest"
	"github.com/imgbuild/imgbuild/rootfs/inspect"
)

// What a container is called whose description gives no name, as KIWI has it.
const (
	defaultName = "system-container"
	defaultTag  = "latest"
)

// names returns the container's names with tags: its own first, then the additional ones, which may lack either part.
func names(t *description.Type) []string {
	c := t.Container
	if c == nil {
		return []string{defaultName + ":" + defaultTag}
	}
	name, tag := c.Name, c.Tag
	if name == "" {
		name = defaultName
	}
	if tag == "" {
		tag = defaultTag
	}
	all := []string{name + ":" + tag}
	for _, more := range c.AdditionalNames {
		n, t, _ := strings.Cut(more, ":")
		if n == "" {
			n = name
		}
		if t == "" {
			t = tag
		}
		all = append(all, n+":"+t)
	}
	return all
}

// configFile returns the image's config with one history entry for its one layer.
func configFile(d *description.Image, created time.Time, diffID v1.Hash) v1.ConfigFile {
	c := d.Type.Container
	if c == nil {
		c = &description.ContainerConfig{}
	}
	arch, variant := inspect.OCIArchitecture(d.Arch)
	author := c.Maintainer
	if author == "" {
		author = strings.TrimSpace(d.Author + " <" + d.Contact + ">")
	}
	file := v1.ConfigFile{
		Architecture: arch, Variant: variant, OS: "linux", Author: author, Created: v1.Time{Time: created},
		RootFS:  v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{diffID}},
		History: []v1.History{{Author: or(c.History.Author, author), Created: v1.Time{Time: created}, CreatedBy: or(c.History.CreatedBy, "imgbuild"), Comment: c.History.Comment}},
		Config: v1.Config{
			User: c.User, WorkingDir: c.WorkingDir, Entrypoint: c.Entrypoint, Cmd: c.Command, StopSignal: c.StopSignal,
			Env: environment(c), Labels: map[string]string{}, ExposedPorts: set(c.Expose), Volumes: set(c.Volumes),
		},
	}
	if c.Entrypoint == nil && c.Command == nil {
		file.Config.Cmd = []string{"/bin/bash"}
	}
	for _, label := range c.Labels {
		file.Config.Labels[label.Name] = label.Value
	}
	if len(file.Config.Labels) == 0 {
		file.Config.Labels = nil
	}
	return file
}

// environment returns the variables, with a PATH for programs that are given without one.
func environment(c *description.ContainerConfig) []string {
	env := []string{}
	hasPath := false
	for _, e := range c.Env {
		env = append(env, e.Name+"="+e.Value)
		hasPath = hasPath || e.Name == "PATH"
	}
	if !hasPath {
		env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, env...)
	}
	return env
}

func set(list []string) map[string]struct{} {
	if len(list) == 0 {
		return nil
	}
	m := map[string]struct{}{}
	for _, s := range list {
		m[s] = struct{}{}
	}
	return m
}

// or returns value, or other if value is empty.
func or(value, other string) string {
	if value == "" {
		return other
	}
	return value
}

func encode(value any) ([]byte, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("writing the container's config: %w", err)
	}
	return data, nil
}

// fileBlob is a file as a blob.
type fileBlob struct {
	*os.File
	size int64
}

func (b fileBlob) Size() int64 { return b.size }

func openBlob(name string) (manifest.Blob, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return fileBlob{f, info.Size()}, nil
}
