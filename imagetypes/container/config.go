package container

import (
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/image"
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
	name, tag := or(c.Name, defaultName), or(c.Tag, defaultTag)
	all := []string{name + ":" + tag}
	for _, more := range c.AdditionalNames {
		n, t := more, ""
		if at := strings.LastIndexByte(more, ':'); at > strings.LastIndexByte(more, '/') { // else it is the port of a registry
			n, t = more[:at], more[at+1:]
		}
		if full := or(n, name) + ":" + or(t, tag); !slices.Contains(all, full) {
			all = append(all, full)
		}
	}
	return all
}

// configure turns the config of the container's base, an empty one if it has none, into the container's own. What the description says counts more,
// and lists add to each other.
func configure(file *v1.ConfigFile, d *description.Image, derived bool) {
	c := d.Type.Container
	if c == nil {
		c = &description.ContainerConfig{}
	}
	file.Architecture, file.Variant = inspect.OCIArchitecture(d.Arch)
	file.OS, file.Author = "linux", author(d)
	config := &file.Config
	config.User, config.WorkingDir, config.StopSignal = or(c.User, config.User), or(c.WorkingDir, config.WorkingDir), or(c.StopSignal, config.StopSignal)
	if c.Entrypoint != nil {
		// As with docker build: another program has another's arguments.
		config.Entrypoint, config.Cmd = c.Entrypoint, nil
	}
	if c.Command != nil {
		config.Cmd = c.Command
	}
	if c.Entrypoint == nil && c.Command == nil && !derived {
		config.Cmd = []string{"/bin/bash"}
	}
	config.Env = environment(config.Env, c.Env)
	config.ExposedPorts, config.Volumes = set(config.ExposedPorts, c.Expose), set(config.Volumes, c.Volumes)
	for _, label := range c.Labels {
		setLabel(config, label.Name, label.Value)
	}
}

func setLabel(config *v1.Config, name, value string) {
	if config.Labels == nil {
		config.Labels = map[string]string{}
	}
	config.Labels[name] = value
}

// author is who the description says maintains the container, else its author.
func author(d *description.Image) string {
	if c := d.Type.Container; c != nil && c.Maintainer != "" {
		return c.Maintainer
	}
	return strings.TrimSpace(d.Author + " <" + d.Contact + ">")
}

// history is the entry for the layer that is added.
func history(d *description.Image, created time.Time) v1.History {
	var h description.History
	if d.Type.Container != nil {
		h = d.Type.Container.History
	}
	return v1.History{Author: or(h.Author, author(d)), Created: v1.Time{Time: created}, CreatedBy: or(h.CreatedBy, "imgbuild"), Comment: h.Comment}
}

// environment returns the variables of a base with those of the description, which replace them, and with a PATH for programs that are given without
// one.
func environment(base []string, own []description.NameValue) []string {
	env := slices.Clone(base)
	put := func(name, value string, replace bool) {
		at := slices.IndexFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
		switch {
		case at < 0:
			env = append(env, name+"="+value)
		case replace:
			env[at] = name + "=" + value
		}
	}
	for _, e := range own {
		put(e.Name, e.Value, true)
	}
	put("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", false)
	return env
}

// set adds the members of a list.
func set(base map[string]struct{}, list []string) map[string]struct{} {
	if len(list) == 0 {
		return base
	}
	all := map[string]struct{}{}
	maps.Copy(all, base)
	for _, s := range list {
		all[s] = struct{}{}
	}
	return all
}

// or returns value, or other if value is empty.
func or(value, other string) string {
	if value == "" {
		return other
	}
	return value
}

// annotations are the manifest's annotations as the OCI image-spec (annotations.md) names them.
func annotations(d *description.Image, base *image.Base, created time.Time) (map[string]string, error) {
	all := map[string]string{
		ocispec.AnnotationCreated: created.UTC().Format(time.RFC3339), ocispec.AnnotationAuthors: author(d),
		ocispec.AnnotationTitle: or(d.DisplayName, d.Name), ocispec.AnnotationVersion: d.Version, ocispec.AnnotationDescription: d.Specification,
	}
	if base != nil {
		digest, err := base.Image.Digest()
		if err != nil {
			return nil, err
		}
		all[ocispec.AnnotationBaseImageName], all[ocispec.AnnotationBaseImageDigest] = base.Name, digest.String()
	}
	maps.DeleteFunc(all, func(_, value string) bool { return value == "" })
	return all, nil
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
