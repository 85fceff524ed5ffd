package ha

// Resource is one entry of ha/resources.cfg, with the node its guest is
// configured on.
type Resource struct {
	Node        string
	Request     Request
	Group       string // of ha/groups.cfg, before rules replaced groups
	Failback    bool
	MaxRestart  int
	MaxRelocate int
}

// DefaultResource is a resource of which nothing but its id is configured.
var DefaultResource = Resource{Request: WantStarted, Failback: true, MaxRestart: 1, MaxRelocate: 1}

// Settings is what datacenter.cfg says of HA: its keys ha and crs.
type Settings struct {
	ShutdownPolicy   string // freeze, failover, migrate or conditional
	Scheduler        string // basic, static or dynamic
	RebalanceOnStart bool
	Rebalance        Rebalance
}

// Rebalance configures the moving of services to even out the nodes' load.
type Rebalance struct {
	Enabled   bool
	Threshold float64 // imbalance above which something is done
	Method    string  // bruteforce or topsis
	Hold      float64 // rounds the imbalance has to last
	Margin    float64 // least relative gain of a move
}

// DefaultSettings holds where nothing is configured.
var DefaultSettings = Settings{
	ShutdownPolicy: "conditional",
	Scheduler:      "basic",
	Rebalance:      Rebalance{Threshold: 0.3, Method: "bruteforce", Hold: 3, Margin: 0.1},
}
