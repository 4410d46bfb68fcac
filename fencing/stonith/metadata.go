package stonith

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Description is what an agent says of itself.
type Description struct {
	Short      string
	Parameters []Parameter
	Actions    []string
}

// Parameter is one option that an agent knows.
type Parameter struct {
	Name       string
	Type       string // string, integer, boolean, second, select
	Default    string
	Required   bool
	Deprecated bool
	Choices    []string // of a select
	Obsoletes  string   // the older name of the same option
}

// Options returns the names of all options that the agent knows.
func (d Description) Options() []string {
	names := make([]string, len(d.Parameters))
	for i, p := range d.Parameters {
		names[i] = p.Name
	}
	return names
}

// Offers tells whether the agent carries an action out.
func (d Description) Offers(a Action) bool { return slices.Contains(d.Actions, string(a)) }

// metadataTimeout bounds the one action that asks no device.
const metadataTimeout = 15 * time.Second

// Describe asks an agent for its metadata.
func Describe(ctx context.Context, agent string) (Description, error) {
	r, err := run(ctx, []string{agent}, []Option{{"action", string(Metadata)}}, metadataTimeout, metaKept)
	if err := (Device{Agent: agent}).done(Metadata, r, err); err != nil {
		return Description{}, err
	}
	d, err := parse([]byte(r.output))
	if err != nil {
		return Description{}, fmt.Errorf("%s metadata: %w", Device{Agent: agent}.Name(), err)
	}
	return d, nil
}

// parse reads the metadata of an agent. An error says that it is not such a description.
func parse(text []byte) (Description, error) {
	var doc struct {
		XMLName    xml.Name `xml:"resource-agent"`
		Short      string   `xml:"shortdesc,attr"`
		Parameters []struct {
			Name       string `xml:"name,attr"`
			Required   string `xml:"required,attr"`
			Deprecated string `xml:"deprecated,attr"`
			Obsoletes  string `xml:"obsoletes,attr"`
			Content    struct {
				Type    string `xml:"type,attr"`
				Default string `xml:"default,attr"`
				Options []struct {
					Value string `xml:"value,attr"`
				} `xml:"option"`
			} `xml:"content"`
		} `xml:"parameters>parameter"`
		Actions []struct {
			Name string `xml:"name,attr"`
		} `xml:"actions>action"`
	}
	if err := xml.Unmarshal(text, &doc); err != nil {
		return Description{}, fmt.Errorf("not the description of an agent: %w", err)
	}
	d := Description{Short: doc.Short}
	for _, p := range doc.Parameters {
		q := Parameter{Name: p.Name, Type: p.Content.Type, Default: p.Content.Default, Required: p.Required == "1",
			Deprecated: p.Deprecated == "1", Obsoletes: p.Obsoletes}
		for _, o := range p.Content.Options {
			q.Choices = append(q.Choices, o.Value)
		}
		d.Parameters = append(d.Parameters, q)
	}
	for _, a := range doc.Actions {
		d.Actions = append(d.Actions, a.Name)
	}
	if !d.Offers(Off) {
		return Description{}, errors.New("it cannot switch anything off")
	}
	return d, nil
}
