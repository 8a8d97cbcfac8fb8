//! MQTT against mosquitto, and rumqttd as a second implementation: every quality
//! of both versions, restarts of the broker and of the daemon, connections that
//! break.

mod delivery;
mod round;
mod sessions;
