package registry

import (
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Details is what there is to know about a container without its contents.
type Details struct {
	Name         string            `json:"name"`
	From         string            `json:"from"` // where it is: "store", "podman", an archive's transport
	Digest       string            `json:"digest"`
	MediaType    string            `json:"mediaType"`
	Created      time.Time         `json:"created"`
	Author       string            `json:"author,omitempty"`
	OS           string            `json:"os"`
	Architecture string            `json:"architecture"`
	Variant      string            `json:"variant,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	User         string            `json:"user,omitempty"`
	WorkingDir   string            `json:"workingDir,omitempty"`
	Env          []string          `json:"env,omitempty"`
	Entrypoint   []string          `json:"entrypoint,omitempty"`
	Cmd          []string          `json:"cmd,omitempty"`
	Size         int64             `json:"size"` // bytes of all layers' blobs
	Layers       []LayerDetails    `json:"layers"`
}

// LayerDetails is what there is to know about one layer.
type LayerDetails struct {
	Digest    string    `json:"digest"`
	DiffID    string    `json:"diffID"`
	MediaType string    `json:"mediaType"`
	Size      int64     `json:"size"` // bytes of the blob
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"createdBy,omitempty"`
	Author    string    `json:"author,omitempty"`
	Comment   string    `json:"comment,omitempty"`
}

// Inspect reads the details of a container from its manifest and config.
func Inspect(img *Image) (*Details, error) {
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	mediaType, err := img.MediaType()
	if err != nil {
		return nil, err
	}
	d := &Details{
		Name: img.Name, From: img.From, Digest: img.Digest.String(), MediaType: string(mediaType),
		Created: config.Created.Time, Author: config.Author,
		OS: config.OS, Architecture: config.Architecture, Variant: config.Variant,
		Labels: config.Config.Labels, Annotations: m.Annotations,
		User: config.Config.User, WorkingDir: config.Config.WorkingDir,
		Env: config.Config.Env, Entrypoint: config.Config.Entrypoint, Cmd: config.Config.Cmd,
		Layers: make([]LayerDetails, len(m.Layers)),
	}
	history := layerHistory(config)
	for i, l := range m.Layers {
		d.Size += l.Size
		d.Layers[i] = LayerDetails{Digest: l.Digest.String(), MediaType: string(l.MediaType), Size: l.Size}
		if i < len(config.RootFS.DiffIDs) {
			d.Layers[i].DiffID = config.RootFS.DiffIDs[i].String()
		}
		if i < len(history) {
			h := history[i]
			d.Layers[i].Created, d.Layers[i].CreatedBy, d.Layers[i].Author, d.Layers[i].Comment = h.Created.Time, h.CreatedBy, h.Author, h.Comment
		}
	}
	return d, nil
}

// layerHistory returns the history entries that made a layer. Where their number is another than that of the layers they can't be told apart,
// so there are none.
func layerHistory(config *v1.ConfigFile) []v1.History {
	var made []v1.History
	for _, h := range config.History {
		if !h.EmptyLayer {
			made = append(made, h)
		}
	}
	if len(made) != len(config.RootFS.DiffIDs) {
		return nil
	}
	return made
}
