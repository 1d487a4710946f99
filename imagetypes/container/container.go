// Package container builds the image types docker and oci: the root tree as one layer, with a config from the description.
package container

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/registry/archive"
	"github.com/imgbuild/imgbuild/registry/manifest"
	"github.com/imgbuild/imgbuild/registry/reference"
)

// Builder builds containers. It implements [image.Builder].
type Builder struct{}

// transport returns the form of the archive and its extension.
func transport(t *description.Type) (reference.Transport, string) {
	if t.Image == "docker" {
		return reference.DockerArchive, ".docker.tar"
	}
	return reference.OCIArchive, ".oci.tar"
}

// Check refuses what can't be built yet.
func (Builder) Check(_ context.Context, r *image.Request) error {
	if r.Description == nil {
		return fmt.Errorf("building a container: no description given")
	}
	t := &r.Description.Type
	if t.DeltaRoot {
		return t.Errorf("delta_root", "leave it out", "delta containers are not supported yet")
	}
	for _, name := range names(t) {
		if _, err := reference.Parse(name); err != nil {
			return configOrigin(t).Errorf("name", "", "the container's name %q is not valid: %v", name, err)
		}
	}
	return nil
}

// configOrigin is the element that errors of the container's config point to.
func configOrigin(t *description.Type) description.Origin {
	if t.Container != nil {
		return t.Container.Origin
	}
	return t.Origin
}

// Plan names the container and says how large its layer is.
func (Builder) Plan(_ context.Context, r *image.Request) (string, error) {
	r, err := r.Filled()
	if err != nil {
		return "", err
	}
	_, extension := transport(&r.Description.Type)
	stats := r.Tree.Stats()
	return fmt.Sprintf("container: %s%s, named %s, one layer of %d entries, %s\n", r.BaseName, extension,
		strings.Join(names(&r.Description.Type), ", "), stats.Entries, progress.FormatBytes(stats.Data)), nil
}

// Build writes BaseName.docker.tar, as 'docker load' and 'podman load' take it, or BaseName.oci.tar, an OCI image layout.
func (Builder) Build(ctx context.Context, r *image.Request) ([]image.Artifact, error) {
	r, err := r.Filled()
	if err != nil {
		return nil, err
	}
	scratch, remove, err := r.Scratch("container")
	if err != nil {
		return nil, err
	}
	defer remove()
	t := &r.Description.Type
	form, extension := transport(t)
	img, err := pack(ctx, r, filepath.Join(scratch, "layer"), form)
	if err != nil {
		return nil, fmt.Errorf("building a container: %w", err)
	}
	name := r.BaseName + extension
	ref := reference.Reference{Transport: form, Path: filepath.Join(r.Dir, name)}
	all := names(t)
	if err := archive.Write(ctx, ref, img, archive.WriteOptions{Name: all[0], Tags: all[1:]}); err != nil {
		return nil, fmt.Errorf("building a container: %w", err)
	}
	return []image.Artifact{{Key: image.KeyContainer, File: name, Compress: form == reference.DockerArchive, UseForBundle: true}}, nil
}

// tree is what goes into the layer: without what only served the building and, unless the description says otherwise, without the
// content of directories that are filled when a system runs.
func tree(r *image.Request) (*layers.Tree, error) {
	return image.WithoutBuildFiles(r.Tree, "dev/*", "proc/*", "sys/*")
}

// pack writes the layer into a file and makes an image of it. A docker archive holds plain layers, an OCI archive gzipped ones, which every
// reader of OCI images knows.
func pack(ctx context.Context, r *image.Request, name string, form reference.Transport) (v1.Image, error) {
	root, err := tree(r)
	if err != nil {
		return nil, err
	}
	whole, err := layers.WholeTree(root)
	if err != nil {
		return nil, err
	}
	compression := layers.Compression{Algorithm: layers.Gzip}
	if form == reference.DockerArchive {
		compression = layers.Compression{}
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	task := r.Progress.Start("packing the root tree", root.Stats().Data, progress.Bytes)
	packed, err := layers.Pack(ctx, f, whole, layers.PackOptions{Compression: compression, Progress: task.Add})
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	task.Done(err)
	if err != nil {
		return nil, err
	}
	return newImage(r, packed, func(v1.Descriptor) (manifest.Blob, error) { return openBlob(name) })
}

// newImage makes manifest and config around the layer.
func newImage(r *image.Request, packed *layers.Packed, open manifest.Opener) (v1.Image, error) {
	diffID, err := v1.NewHash(packed.DiffID.String())
	if err != nil {
		return nil, err
	}
	digest, err := v1.NewHash(packed.Digest.String())
	if err != nil {
		return nil, err
	}
	config, err := encode(configFile(r.Description, r.Repro.Epoch, diffID))
	if err != nil {
		return nil, err
	}
	configDigest, configSize, err := v1.SHA256(bytes.NewReader(config))
	if err != nil {
		return nil, err
	}
	raw, err := encode(v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		Config:        v1.Descriptor{MediaType: types.OCIConfigJSON, Size: configSize, Digest: configDigest},
		Layers:        []v1.Descriptor{{MediaType: types.MediaType(packed.MediaType), Size: packed.Size, Digest: digest}},
	})
	if err != nil {
		return nil, err
	}
	return manifest.New(raw, config, open)
}
