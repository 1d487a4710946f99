package stash

import (
	"fmt"
	"maps"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/registry/manifest"
	"github.com/imgbuild/imgbuild/rootfs/inspect"
)

// What KIWI's stash writes into config and history. Tools that look for stashes look for these.
const (
	labelMaintainer = "io.osinside.kiwi.maintainer"
	labelMeta       = "io.osinside.kiwi.meta"
	kiwiIdentity    = "KIWI - https://github.com/OSInside/kiwi"
	historyComment  = "KIWI Root Tree Stash"
	entrypoint      = "/bin/sh"
)

// about is what a stash's config and annotations say of its tree.
type about struct {
	author, version, title string
	architecture, variant  string
}

// aboutTree reads it from the tree and the description, which may be nil.
func aboutTree(tree *layers.Tree, image *description.Image) (about, error) {
	var a about
	machine, err := inspect.Architecture(tree)
	if err != nil {
		return a, fmt.Errorf("finding the root tree's architecture: %w", err)
	}
	if image != nil {
		a.author, a.version, a.title = image.Author, image.Version, image.Specification
		if machine == "" {
			machine = image.Arch
		}
	}
	a.architecture, a.variant = inspect.OCIArchitecture(machine)
	if a.architecture == "" { // no programs: the OCI specification wants one all the same, and docker and umoci take this machine's
		a.architecture = runtime.GOARCH
	}
	return a, nil
}

// appendLayer returns old, or an empty image if it is nil, with one more layer.
func appendLayer(old v1.Image, layer v1.Layer, mediaType string, a about, created time.Time) (v1.Image, error) {
	base, err := manifest.AsOCI(old)
	if err != nil {
		return nil, err
	}
	image, err := mutate.Append(base, mutate.Addendum{Layer: layer, MediaType: types.MediaType(mediaType), History: v1.History{
		Author: a.author, Created: v1.Time{Time: created}, CreatedBy: kiwiIdentity, Comment: historyComment,
	}})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Created = v1.Time{Time: created}
	config.Author, config.OS = a.author, "linux"
	config.Architecture, config.Variant = a.architecture, a.variant
	config.Config.Entrypoint = []string{entrypoint}
	config.Config.Labels = maps.Clone(config.Config.Labels)
	if config.Config.Labels == nil {
		config.Config.Labels = map[string]string{}
	}
	config.Config.Labels[labelMaintainer] = a.author
	config.Config.Labels[labelMeta] = kiwiIdentity
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return nil, err
	}
	annotated, ok := mutate.Annotations(image, a.annotations(created)).(v1.Image)
	if !ok {
		return nil, fmt.Errorf("annotating an image gave a %T", annotated)
	}
	return annotated, nil
}

// annotations are the manifest's annotations as the OCI image-spec (annotations.md) names them.
func (a about) annotations(created time.Time) map[string]string {
	all := map[string]string{ocispec.AnnotationCreated: created.UTC().Format(time.RFC3339)}
	for key, value := range map[string]string{ocispec.AnnotationAuthors: a.author, ocispec.AnnotationVersion: a.version,
		ocispec.AnnotationDescription: a.title} {
		if value != "" {
			all[key] = value
		}
	}
	return all
}
